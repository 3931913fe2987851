//! `kpipe acls`: list, create, delete.

use super::Context;
use super::guard::{Decision, Guard};
use super::listing::{Table, print, print_lines, read_json_lines, say, table};
use super::named::named;
use crate::engine::{Acl, AclFilter, Named, Operation, PatternType, Permission, ResourceType};
use crate::error::{EXIT_OK, Error, Result};
use crate::text::counted;
use clap::{Args, Subcommand};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kpipe acls create --principal User:alice --operation read --topic orders --group workers\n  \
    kpipe acls create --principal User:etl --operation write,describe --topic raw. --prefixed\n  \
    kpipe acls list --topic orders                  # all ACLs that apply to it\n  \
    kpipe acls list -J >acls.jsonl                  # review, edit, apply:\n  \
    kpipe acls create --input acls.jsonl --dry-run")]
pub(super) struct Acls {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List ACLs, all or those that match
    List {
        #[command(flatten)]
        which: Which,
        /// Print one JSON object per line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Create ACLs; existing ones are left unchanged
    Create {
        #[command(flatten)]
        which: Which,
        /// Deny instead of allow; deny overrides allow
        #[arg(long)]
        deny: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Delete the ACLs that match
    Delete {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        change: Change,
    },
}

/// Resources, principals, hosts and operations.
#[derive(Debug, Args)]
struct Which {
    /// Topic name, or * for all topics
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// Group ID, or * for all groups
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// Transactional ID, or * for all
    #[arg(long, value_name = "ID")]
    transactional_id: Vec<String>,
    /// Owner of a delegation token
    #[arg(long, value_name = "OWNER")]
    delegation_token: Vec<String>,
    /// User to create delegation tokens for
    #[arg(long, value_name = "PRINCIPAL")]
    user: Vec<String>,
    /// The cluster resource
    #[arg(long)]
    cluster: bool,
    /// Treat names as prefixes
    #[arg(long)]
    prefixed: bool,
    /// Principal, such as User:alice; User:* for everyone
    #[arg(long, value_name = "TYPE:NAME")]
    principal: Vec<String>,
    /// Client address [default: any]
    #[arg(long, value_name = "ADDRESS")]
    host: Vec<String>,
    /// Operations to allow or deny
    #[arg(long, value_parser = named::<Operation>(), value_delimiter = ',', value_name = "OPERATION,...")]
    operation: Vec<Operation>,
}

#[derive(Debug, Args)]
struct Change {
    /// Read ACLs from FILE as list -J prints them; - for stdin
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print one JSON object per ACL
    #[arg(short = 'J', long)]
    json: bool,
    #[command(flatten)]
    guard: Guard,
}

impl Which {
    fn resources(&self) -> Vec<(ResourceType, String)> {
        let named = [
            (ResourceType::Topic, &self.topic),
            (ResourceType::Group, &self.group),
            (ResourceType::TransactionalId, &self.transactional_id),
            (ResourceType::DelegationToken, &self.delegation_token),
            (ResourceType::User, &self.user),
        ];
        let named = named.into_iter().flat_map(|(kind, names)| names.iter().map(move |name| (kind, name.clone())));
        named.chain(self.cluster.then(|| (ResourceType::Cluster, ResourceType::CLUSTER_NAME.to_owned()))).collect()
    }

    /// All combinations; a field that is not given matches any.
    fn filters(&self, exact: bool) -> Vec<AclFilter> {
        fn each<T: Clone>(values: &[T]) -> Vec<Option<T>> {
            if values.is_empty() { vec![None] } else { values.iter().cloned().map(Some).collect() }
        }
        let pattern = match (self.prefixed, exact) {
            (true, _) => Some(PatternType::Prefixed),
            (false, true) => Some(PatternType::Literal),
            (false, false) => None,
        };
        let mut filters = Vec::new();
        for resource in each(&self.resources()) {
            for principal in each(&self.principal) {
                for host in each(&self.host) {
                    for operation in each(&self.operation) {
                        filters.push(AclFilter {
                            pattern_type: pattern.filter(|_| resource.is_some()),
                            resource: resource.clone().map(|(kind, name)| (kind, Some(name))),
                            principal: principal.clone(),
                            host: host.clone(),
                            operation,
                            permission: None,
                        });
                    }
                }
            }
        }
        filters
    }

    /// The ACLs that the flags spell out.
    fn acls(&self, permission: Permission) -> Result<Vec<Acl>> {
        let missing = [
            (self.resources().is_empty(), "a resource: --topic, --group, --transactional-id or --cluster"),
            (self.principal.is_empty(), "--principal User:NAME"),
            (self.operation.is_empty(), "--operation"),
        ];
        if let Some((_, what)) = missing.into_iter().find(|(missing, _)| *missing) {
            return Err(Error::Usage(format!("an ACL requires {what} (or use --input FILE)")));
        }
        if let Some(principal) = self.principal.iter().find(|principal| !principal.contains(':')) {
            return Err(Error::Usage(format!("--principal {principal}: expected User:{principal}")));
        }
        let mut acls = Vec::new();
        for filter in self.filters(true) {
            if let (Some((resource_type, Some(resource_name))), Some(principal), Some(operation)) =
                (filter.resource, filter.principal, filter.operation)
            {
                acls.push(Acl {
                    resource_type,
                    resource_name,
                    // There is one cluster; a prefix of its name means nothing.
                    pattern_type: filter
                        .pattern_type
                        .filter(|_| resource_type != ResourceType::Cluster)
                        .unwrap_or_default(),
                    principal,
                    host: filter.host.unwrap_or("*".to_owned()),
                    operation,
                    permission,
                });
            }
        }
        Ok(acls)
    }
}

impl Acls {
    /// The operation that the command needs for what no request of its own names.
    pub(super) fn operation(&self) -> Operation {
        match self.verb {
            Verb::List { .. } => Operation::Describe,
            Verb::Create { .. } | Verb::Delete { .. } => Operation::Alter,
        }
    }

    pub(super) fn run(&self, context: &Context) -> Result<u8> {
        match &self.verb {
            Verb::List { which, json } => list(context, which, *json)?,
            Verb::Create { which, deny, change } => {
                let permission = if *deny { Permission::Deny } else { Permission::Allow };
                create(context, which, permission, change)?;
            }
            Verb::Delete { which, change } => delete(context, which, change)?,
        }
        Ok(EXIT_OK)
    }
}

fn list(context: &Context, which: &Which, json: bool) -> Result<()> {
    let admin = context.admin("acls")?;
    let mut found = BTreeSet::new();
    for filter in which.filters(false) {
        found.append(&mut admin.acls(&filter)?);
    }
    show(found.iter().map(|acl| (acl, "")), json)
}

/// Whether everyone is allowed something on every resource of a kind, or everything on one: rarely meant.
fn opens_to_everyone(acl: &Acl) -> bool {
    let everything = acl.operation == Operation::All
        || acl.resource_type == ResourceType::Cluster
        || (acl.resource_name == "*" && acl.pattern_type == PatternType::Literal)
        || (acl.resource_name.is_empty() && acl.pattern_type == PatternType::Prefixed);
    acl.permission == Permission::Allow && acl.principal == "User:*" && everything
}

fn create(context: &Context, which: &Which, permission: Permission, change: &Change) -> Result<()> {
    let acls = match &change.input {
        Some(file) => read_json_lines(file)?,
        None => which.acls(permission)?,
    };
    let admin = context.admin("acls")?;
    let existing = admin.acls(&AclFilter::default())?;
    let new: Vec<Acl> = acls.iter().filter(|acl| !existing.contains(acl)).cloned().collect();
    if change.guard.dry_run {
        let what = |acl| if existing.contains(acl) { "exists" } else { "create" };
        return show(acls.iter().map(|acl| (acl, what(acl))), change.json);
    }
    let open: Vec<(&Acl, &str)> = new.iter().filter(|acl| opens_to_everyone(acl)).map(|acl| (acl, "create")).collect();
    if !open.is_empty() {
        let what = format!("{} for everyone", counted(open.len() as u64, "ACL"));
        if change.guard.decide(context, "acls create", "create", &what, Some(&acls_table(&open)))? == Decision::DryRun {
            return Ok(());
        }
    }
    if !new.is_empty() {
        admin.create_acls(&new)?;
    }
    if change.json {
        show(new.iter().map(|acl| (acl, "create")), true)?;
    }
    let existed = acls.len() - new.len();
    say(context, &format!("created {}, {existed} already existed", counted(new.len() as u64, "ACL")));
    Ok(())
}

fn delete(context: &Context, which: &Which, change: &Change) -> Result<()> {
    let wanted: Option<Vec<Acl>> = change.input.as_deref().map(read_json_lines).transpose()?;
    if wanted.is_none() && which.resources().is_empty() && which.principal.is_empty() {
        return Err(Error::Usage("no ACLs selected: name a resource, a --principal, or --input FILE".to_owned()));
    }
    let admin = context.admin("acls")?;
    let mut found = BTreeSet::new();
    match &wanted {
        Some(wanted) => {
            found = admin.acls(&AclFilter::default())?;
            found.retain(|acl| wanted.contains(acl));
        }
        None => {
            for filter in which.filters(true) {
                found.append(&mut admin.acls(&filter)?);
            }
        }
    }
    let found: Vec<Acl> = found.into_iter().collect();
    let rows: Vec<(&Acl, &str)> = found.iter().map(|acl| (acl, "delete")).collect();
    let what = counted(found.len() as u64, "ACL");
    if change.guard.dry_run {
        return show(rows.into_iter(), change.json);
    }
    if !found.is_empty() {
        if change.guard.decide(context, "acls delete", "delete", &what, Some(&acls_table(&rows)))? == Decision::DryRun {
            return Ok(());
        }
        admin.delete_acls(&found)?;
        if change.json {
            show(rows.into_iter(), true)?;
        }
    }
    say(context, &format!("deleted {what}"));
    Ok(())
}

fn show<'a>(acls: impl Iterator<Item = (&'a Acl, &'a str)>, json: bool) -> Result<()> {
    if json {
        // What is done is not a field: the lines can be read again.
        return print_lines(acls.map(|(acl, _)| json!(acl)));
    }
    print(&acls_table(&acls.collect::<Vec<_>>()).to_string())
}

/// ACLs, with what is done to each.
fn acls_table(acls: &[(&Acl, &str)]) -> Table {
    let header = ["PRINCIPAL", "HOST", "PERMISSION", "OPERATION", "RESOURCE", "NAME", "PATTERN", ""];
    let mut table = table(&header[..if acls.iter().all(|(_, what)| what.is_empty()) { 7 } else { 8 }]);
    for (acl, what) in acls {
        table.add_row([
            &acl.principal,
            &acl.host,
            acl.permission.name(),
            acl.operation.name(),
            acl.resource_type.name(),
            &acl.resource_name,
            acl.pattern_type.name(),
            what,
        ]);
    }
    table
}
