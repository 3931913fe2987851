//! `kpipe local`: an in-memory cluster, until a signal comes or a command has ended.

use super::Context;
use super::listing::print;
use crate::config::{parse_duration, parse_size};
use crate::engine::{Acl, Named, PatternType, Permission, ResourceType};
use crate::error::{EXIT_FAILED, EXIT_OK, Error, Result};
use crate::local::{Access, Certificate, Fault, Local as Cluster, OFFERED, Options, Times};
use clap::Args;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiKey;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

#[derive(Debug, Args)]
#[command(
    after_help = "Supports topics, idempotent and transactional producers, consumer groups, replication, SASL, ACLs \
    and TLS as Kafka 4 does.\n\n\
    Topic configs are stored and shown; those with an effect are cleanup.policy, delete.retention.ms, \
    max.message.bytes, message.timestamp.*, min.cleanable.dirty.ratio, min.compaction.lag.ms, min.insync.replicas, \
    retention.bytes, retention.ms and unclean.leader.election.enable.\n\n\
    Examples:\n  \
    kpipe local --topic demo:3\n  \
    kpipe local --user al:secret --user admin:root --super-user admin --allow al:read:topic:orders\n  \
    kpipe local -- sh -c 'seq 5 | kpipe produce t && kpipe consume t -o beginning -e'\n  \
    kpipe local --fault produce:NOT_LEADER_OR_FOLLOWER:0.01 --latency 20ms -- ./my-tests"
)]
pub(super) struct Local {
    /// Number of brokers, 1 to 100
    // A string, because it overrides the flag that all other commands have.
    #[arg(id = "every_brokers", long = "brokers", value_name = "N", default_value = "1", value_parser = parse_brokers)]
    brokers: String,
    /// Port of the first broker on 127.0.0.1, counting up for the others; 0 for free ports [default: 9092; with COMMAND 0]
    #[arg(long)]
    port: Option<u16>,
    /// Topic to create at startup; others are created on first use
    #[arg(long = "topic", value_name = "NAME:PARTITIONS", value_parser = parse_topic)]
    topics: Vec<(String, i32)>,
    /// Maximum size of all records; the oldest batches are deleted beyond it
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse_size)]
    retain_bytes: usize,
    /// Support the KIP-848 consumer group protocol too, as Kafka 4 does; clients that choose automatically then use it
    #[arg(long)]
    consumer_groups: bool,
    /// Answer requests of a kind with an error instead of handling them: all of them, or this share
    ///
    /// API is a request's name, such as produce or OffsetCommit; ERROR is a Kafka error's name or code; SHARE is from 0
    /// to 1. Repeat the flag for several faults.
    #[arg(long = "fault", value_name = "API:ERROR[:SHARE]", value_parser = parse_fault)]
    faults: Vec<(ApiKey, Fault, Times)>,
    /// User that can authenticate with SASL PLAIN or SCRAM; clients must authenticate if there are any
    #[arg(long = "user", value_name = "NAME:PASSWORD", value_parser = parse_user)]
    users: Vec<(String, String)>,
    /// User that may do everything; others may then do only what --allow and ACLs permit
    #[arg(long = "super-user", value_name = "NAME")]
    super_users: Vec<String>,
    /// Allow a user operations on a resource; operations that are not allowed are then denied
    ///
    /// USER is a name, or * for all. OPERATIONS are those of `kpipe acls`, separated by commas, or all. RESOURCE is
    /// topic, group, transactional-id or cluster. NAME stands for all names that begin with it if it ends with *.
    #[arg(long = "allow", value_name = "USER:OPERATIONS:RESOURCE:NAME", value_parser = parse_allow)]
    allowed: Vec<Allowed>,
    /// Encrypt connections; create a CA, and write its certificate to DIR/ca.pem
    #[arg(long, value_name = "DIR", conflicts_with_all = ["tls_cert", "tls_key"])]
    tls: Option<PathBuf>,
    /// Encrypt connections with this certificate, as PEM with those of its CAs
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Key of --tls-cert, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Delay of every response
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = parse_duration)]
    latency: Duration,
    /// Seed of the random choices of --fault, to repeat them
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Command to run with KPIPE_BROKERS set, and if needed KPIPE_SECURITY_PROTOCOL and KPIPE_SSL_CA_LOCATION; kpipe
    /// exits with its exit code
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

fn parse_brokers(text: &str) -> Result<String, String> {
    let count = text.parse::<u16>().ok().filter(|count| (1..=100).contains(count));
    count.map(|_| text.to_owned()).ok_or_else(|| "expected a number of brokers, 1 to 100".to_owned())
}

fn parse_topic(text: &str) -> Result<(String, i32), String> {
    let (name, partitions) = text.rsplit_once(':').unwrap_or((text, "1"));
    let partitions = partitions.parse().ok().filter(|count| *count > 0);
    partitions
        .map(|count| (name.to_owned(), count))
        .ok_or_else(|| "expected NAME:PARTITIONS, such as demo:3".to_owned())
}

fn parse_user(text: &str) -> Result<(String, String), String> {
    let user = text.split_once(':').filter(|(name, password)| !name.is_empty() && !password.is_empty());
    user.map(|(name, password)| (name.to_owned(), password.to_owned()))
        .ok_or_else(|| "expected NAME:PASSWORD, such as alice:secret".to_owned())
}

/// The ACLs of one `--allow`.
#[derive(Debug, Clone)]
struct Allowed(Vec<Acl>);

/// Parses `alice:read,describe:topic:orders`.
fn parse_allow(text: &str) -> Result<Allowed, String> {
    fn named<T: Named>(text: &str, what: &str) -> Result<T, String> {
        T::named(text).ok_or_else(|| {
            let names: Vec<_> = T::ALL.iter().map(|value| value.name()).collect();
            format!("{text} is not {what}: expected one of {}", names.join(", "))
        })
    }
    let parts: Vec<&str> = text.splitn(4, ':').collect();
    let (user, operations, resource, name) = match parts[..] {
        [user, operations, resource, name] => (user, operations, resource, name),
        [user, operations, "cluster"] => (user, operations, "cluster", ResourceType::CLUSTER_NAME),
        _ => return Err("expected USER:OPERATIONS:RESOURCE:NAME, such as alice:read:topic:orders".to_owned()),
    };
    let resource_type: ResourceType = named(resource, "a resource")?;
    let (name, pattern_type) = match name.strip_suffix('*') {
        Some(prefix) if !prefix.is_empty() => (prefix, PatternType::Prefixed),
        _ => (name, PatternType::Literal),
    };
    if user.is_empty() || name.is_empty() {
        return Err("neither USER nor NAME can be empty".to_owned());
    }
    let acls = operations.split(',').map(|operation| {
        Ok(Acl {
            resource_type,
            resource_name: name.to_owned(),
            pattern_type,
            principal: format!("User:{user}"),
            host: "*".to_owned(),
            operation: named(operation, "an operation")?,
            permission: Permission::Allow,
        })
    });
    acls.collect::<Result<_, String>>().map(Allowed)
}

/// Parses `produce:NOT_LEADER_OR_FOLLOWER:0.01`. Names are compared by their letters alone.
fn parse_fault(text: &str) -> Result<(ApiKey, Fault, Times), String> {
    let letters = |name: &str| name.replace(['-', '_'], "").to_ascii_lowercase();
    let mut parts = text.splitn(3, ':');
    let (Some(api), Some(error)) = (parts.next(), parts.next()) else {
        return Err("expected API:ERROR or API:ERROR:SHARE, such as produce:NOT_LEADER_OR_FOLLOWER:0.01".to_owned());
    };
    let offered = OFFERED.iter().map(|(api, _)| *api).find(|offered| letters(&format!("{offered:?}")) == letters(api));
    let offered = offered.ok_or_else(|| format!("{api} is not a request that kpipe local answers"))?;
    let named = || (-1..=LAST_ERROR).find(|code| is_named(*code, &letters(error), letters));
    let code = error.parse().ok().or_else(named).filter(|code| *code != 0);
    let code = code.ok_or_else(|| format!("{error} is not a Kafka error"))?;
    let times = match parts.next() {
        None => Times::Always,
        Some(share) => {
            let share = share.parse().ok().filter(|share| (0.0..=1.0).contains(share));
            Times::Chance(share.ok_or("expected a share from 0 to 1")?)
        }
    };
    Ok((offered, Fault::Error(code), times))
}

/// Beyond the codes of Kafka's errors.
const LAST_ERROR: i16 = 200;

fn is_named(code: i16, name: &str, letters: impl Fn(&str) -> String) -> bool {
    ResponseError::try_from_code(code).is_some_and(|error| letters(&format!("{error:?}")) == name)
}

impl Local {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        let port = self.port.unwrap_or(if self.command.is_empty() { 9092 } else { 0 });
        let brokers = self.brokers.parse()?;
        let options = Options { brokers, port, topics: self.topics.clone(), retain_bytes: self.retain_bytes };
        let cluster = Cluster::start(&options, &context.stop)?;
        if self.consumer_groups {
            cluster.offer_consumer_groups();
        }
        let authority = self.encrypt(&cluster)?;
        let has_acls = !self.allowed.is_empty() || !self.super_users.is_empty();
        cluster.set_access(Access {
            users: self.users.iter().cloned().collect(),
            acls: has_acls.then(|| self.allowed.iter().flat_map(|allowed| &allowed.0).cloned().collect()),
            super_users: self.super_users.iter().cloned().collect(),
        });
        let faults = cluster.faults();
        faults.set_seed(self.seed.unwrap_or_else(|| fastrand::u64(..)));
        faults.set_latency(self.latency);
        for (api, fault, times) in &self.faults {
            faults.inject(*api, *times, *fault);
        }
        match self.command.split_first() {
            None => {
                print(&cluster.bootstrap())?;
                while !context.stop.wait(Duration::MAX) {}
                Ok(EXIT_OK)
            }
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).env("KPIPE_BROKERS", cluster.bootstrap()).env("PATH", path_with_kpipe()?);
                command.envs(self.security_protocol().map(|protocol| ("KPIPE_SECURITY_PROTOCOL", protocol)));
                command.envs(authority.iter().map(|path| ("KPIPE_SSL_CA_LOCATION", path)));
                let child = command.spawn().map_err(|e| Error::io(program.display(), &e))?;
                Ok(exit_code(wait(child, context)?))
            }
        }
    }

    /// The `security.protocol` that clients need, if it is not the default.
    fn security_protocol(&self) -> Option<&'static str> {
        let is_encrypted = self.tls.is_some() || self.tls_cert.is_some();
        match (is_encrypted, !self.users.is_empty()) {
            (false, false) => None,
            (false, true) => Some("SASL_PLAINTEXT"),
            (true, false) => Some("SSL"),
            (true, true) => Some("SASL_SSL"),
        }
    }

    /// Encrypts connections, if that is asked for; returns where the certificate of a CA was written.
    fn encrypt(&self, cluster: &Cluster) -> anyhow::Result<Option<PathBuf>> {
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            let unusable = |path: &Path, e: &dyn std::fmt::Display| Error::Usage(format!("{}: {e}", path.display()));
            let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
            let chain = chain.map_err(|e| unusable(certificate, &e))?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|e| unusable(key, &e))?;
            cluster.encrypt(Certificate { chain, key })?;
        }
        match &self.tls {
            Some(directory) => Ok(Some(generate(cluster, directory)?)),
            None => Ok(None),
        }
    }
}

/// Encrypts connections with a certificate of a new CA; returns where that CA's was written.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn generate(cluster: &Cluster, directory: &Path) -> anyhow::Result<PathBuf> {
    let generated = crate::local::generate()?;
    let path = directory.join("ca.pem");
    let pem = pkcs8::der::pem::encode_string("CERTIFICATE", pkcs8::LineEnding::LF, &generated.authority);
    let pem = pem.map_err(|e| Error::Usage(format!("--tls: {e}")))?;
    std::fs::create_dir_all(directory).map_err(|e| Error::io(directory.display(), &e))?;
    std::fs::write(&path, pem).map_err(|e| Error::io(path.display(), &e))?;
    cluster.encrypt(generated.server)?;
    Ok(std::path::absolute(&path).unwrap_or(path))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn generate(_: &Cluster, _: &Path) -> anyhow::Result<PathBuf> {
    Err(Error::Usage("--tls creates no certificates on this CPU (use --tls-cert and --tls-key)".to_owned()).into())
}

/// So that a command finds the kpipe that runs it, when there is no other.
fn path_with_kpipe() -> anyhow::Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
    Ok(std::env::join_paths(std::env::split_paths(&path).chain(own))?)
}

/// Waits for the command's end. A SIGTERM is passed on; a terminal sends its signals to the command by itself.
fn wait(mut child: Child, context: &Context) -> Result<ExitStatus> {
    let pid = rustix::process::Pid::from_child(&child);
    let stop = context.stop.clone();
    let _waker = context.stop.wake_with(move || {
        if stop.exit_code() == 128 + rustix::process::Signal::TERM.as_raw() as u8 {
            // Err: it has ended by itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    });
    child.wait().map_err(|e| Error::io("waiting for the command", &e))
}

/// Its exit code, or what a shell reports when a signal ended it.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(EXIT_FAILED)
}
