//! `kpipe acls`: list, create, delete.

use super::Context;
use super::listing::{confirm, print, print_lines, read_json_lines, say, table};
use super::named::named;
use crate::engine::{Acl, AclFilter, Named, Operation, PatternType, Permission, ResourceType};
use crate::error::{EXIT_OK, Error, Result};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Who may do what.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kpipe acls create --principal User:alice --operation read --topic orders --group workers\n  \
    kpipe acls create --principal User:etl --operation write,describe --topic raw. --prefixed\n  \
    kpipe acls list --topic orders                  # all that bear on it\n  \
    kpipe acls list -J >acls.jsonl                  # to review, change and apply:\n  \
    kpipe acls create --input acls.jsonl --dry-run")]
pub(super) struct Acls {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists ACLs: all, or those that fit
    List {
        #[command(flatten)]
        which: Which,
        /// A JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Makes ACLs; those that are there already stay as they are
    Create {
        #[command(flatten)]
        which: Which,
        /// Denies instead of allowing; a denial wins
        #[arg(long)]
        deny: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Deletes ACLs: those that fit, as they are written
    Delete {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        change: Change,
        /// Does not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// Resources, principals, hosts and operations.
#[derive(Debug, Args)]
struct Which {
    /// A topic, or * for all
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// A group, or *
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// A transactional id, or *
    #[arg(long, value_name = "ID")]
    transactional_id: Vec<String>,
    /// A delegation token's owner
    #[arg(long, value_name = "OWNER")]
    delegation_token: Vec<String>,
    /// A user whose tokens may be made
    #[arg(long, value_name = "PRINCIPAL")]
    user: Vec<String>,
    /// The cluster itself
    #[arg(long)]
    cluster: bool,
    /// The names are prefixes: all that begin so
    #[arg(long)]
    prefixed: bool,
    /// Whose, like User:alice; User:* is everybody
    #[arg(long, value_name = "TYPE:NAME")]
    principal: Vec<String>,
    /// The address that they come from [default: any]
    #[arg(long, value_name = "ADDRESS")]
    host: Vec<String>,
    /// What for
    #[arg(long, value_parser = named::<Operation>(), value_delimiter = ',', value_name = "OPERATION,..")]
    operation: Vec<Operation>,
}

#[derive(Debug, Args)]
struct Change {
    /// Reads ACLs as list -J writes them; - is stdin
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Shows what would be done
    #[arg(long)]
    dry_run: bool,
    /// A JSON object an ACL
    #[arg(short = 'J', long)]
    json: bool,
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
        named.chain(self.cluster.then(|| (ResourceType::Cluster, "kafka-cluster".to_owned()))).collect()
    }

    /// All combinations; a field that is not given fits any.
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

    /// The ACLs that are spelled out.
    fn acls(&self, permission: Permission) -> Result<Vec<Acl>> {
        let missing = [
            (self.resources().is_empty(), "a resource: --topic, --group, --transactional-id or --cluster"),
            (self.principal.is_empty(), "--principal User:NAME"),
            (self.operation.is_empty(), "--operation"),
        ];
        if let Some((_, what)) = missing.into_iter().find(|(missing, _)| *missing) {
            return Err(Error::Usage(format!("an ACL needs {what}; or --input FILE")));
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
                    // There is one cluster: no name begins like its.
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
    /// What it does with the cluster, as ACLs call it.
    pub(super) fn operation(&self) -> Operation {
        match self.verb {
            Verb::List { .. } => Operation::Describe,
            Verb::Create { .. } | Verb::Delete { .. } => Operation::Alter,
        }
    }

    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        match &self.verb {
            Verb::List { which, json } => list(context, which, *json)?,
            Verb::Create { which, deny, change } => {
                let permission = if *deny { Permission::Deny } else { Permission::Allow };
                create(context, which, permission, change)?;
            }
            Verb::Delete { which, change, yes } => delete(context, which, change, *yes)?,
        }
        Ok(EXIT_OK)
    }
}

fn list(context: &Context, which: &Which, json: bool) -> Result<()> {
    let admin = context.admin("acls")?;
    let mut found = std::collections::BTreeSet::new();
    for filter in which.filters(false) {
        found.append(&mut admin.acls(&filter)?);
    }
    show(found.iter().map(|acl| (acl, "")), json)
}

fn create(context: &Context, which: &Which, permission: Permission, change: &Change) -> Result<()> {
    let acls = match &change.input {
        Some(file) => read_json_lines(file)?,
        None => which.acls(permission)?,
    };
    let admin = context.admin("acls")?;
    let there = admin.acls(&AclFilter::default())?;
    let new: Vec<Acl> = acls.iter().filter(|acl| !there.contains(acl)).cloned().collect();
    if change.dry_run {
        return show(
            acls.iter().map(|acl| (acl, if there.contains(acl) { "is there" } else { "create" })),
            change.json,
        );
    }
    if !new.is_empty() {
        admin.create_acls(&new)?;
    }
    if change.json {
        show(new.iter().map(|acl| (acl, "create")), true)?;
    }
    say(context, &format!("created {} ACLs, {} were there", new.len(), acls.len() - new.len()));
    Ok(())
}

fn delete(context: &Context, which: &Which, change: &Change, yes: bool) -> Result<()> {
    let wanted: Option<Vec<Acl>> = change.input.as_deref().map(read_json_lines).transpose()?;
    if wanted.is_none() && which.resources().is_empty() && which.principal.is_empty() {
        return Err(Error::Usage("which ACLs? A resource, a --principal, or --input FILE".to_owned()));
    }
    let admin = context.admin("acls")?;
    let mut found = std::collections::BTreeSet::new();
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
    if change.dry_run {
        return show(found.iter().map(|acl| (acl, "delete")), change.json);
    }
    if !found.is_empty() {
        if !yes {
            show(found.iter().map(|acl| (acl, "delete")), false)?;
            confirm("acls delete", &format!("Delete these {} ACLs?", found.len()))?;
        }
        let found: Vec<Acl> = found.iter().cloned().collect();
        admin.delete_acls(&found)?;
        if change.json {
            show(found.iter().map(|acl| (acl, "delete")), true)?;
        }
    }
    say(context, &format!("deleted {} ACLs", found.len()));
    Ok(())
}

fn show<'a>(acls: impl Iterator<Item = (&'a Acl, &'a str)>, json: bool) -> Result<()> {
    if json {
        // What is done is no field: the lines can be read again.
        return print_lines(acls.map(|(acl, _)| serde_json::to_value(acl).unwrap_or_default()));
    }
    let acls: Vec<_> = acls.collect();
    let header = ["PRINCIPAL", "HOST", "PERMISSION", "OPERATION", "RESOURCE", "NAME", "PATTERN", ""];
    let mut table = table(&header[..if acls.iter().all(|(_, what)| what.is_empty()) { 7 } else { 8 }]);
    for (acl, what) in acls {
        table.add_row([
            acl.principal.clone(),
            acl.host.clone(),
            acl.permission.name().to_owned(),
            acl.operation.name().to_owned(),
            acl.resource_type.name().to_owned(),
            acl.resource_name.clone(),
            acl.pattern_type.name().to_owned(),
            what.to_owned(),
        ]);
    }
    print(&table.to_string())
}
