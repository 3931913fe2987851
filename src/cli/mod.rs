//! The command line: arguments, and for each command the run that wires the modules. It may use every module.

mod acls;
mod cluster;
mod config;
mod consume;
mod denied;
mod groups;
mod guard;
mod hints;
mod listing;
mod local;
mod logging;
mod named;
mod produce;
mod registry;
mod report;
mod schema_args;
mod schemas;
mod selection;
mod topics;

use crate::config::{Properties, Sources, config_file};
use crate::engine::security::Security;
use crate::engine::{Engine, EngineChoice, NativeAdmin, Operation, Options, ResourceType};
use crate::error::{Action, EXIT_OK, Error, Result};
use crate::metrics::Metrics;
use crate::signal::Stop;
use clap::{Arg, ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::iter::successors;
use std::path::PathBuf;
use std::sync::Arc;

/// The ID of `-X`.
const PROPERTIES: &str = "properties";

/// Connect the shell to Apache Kafka: pipe lines into topics, stream topics out as JSON
#[derive(Debug, Parser)]
#[command(name = "kpipe", version, max_term_width = 100, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 success; 1 failure; 2 bad usage or configuration; 129, 130, 143 stopped by a signal \
    (consume: 0)\n\n\
    Examples:\n  \
    seq 5 | kpipe produce demo\n  \
    kpipe consume demo -o beginning -e"
)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command. clap propagates global arguments by their IDs: no command has an argument of the same ID.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Bootstrap brokers [default: the property bootstrap.servers, which $KPIPE_BROKERS also sets; else localhost:9092]
    #[arg(id = "every_brokers", short = 'b', long = "brokers", global = true, value_name = "HOST:PORT,...")]
    brokers: Option<String>,
    /// Profile from ~/.config/kpipe/config.toml [default: $KPIPE_PROFILE, else the file's default]
    #[arg(long, global = true, value_name = "NAME")]
    profile: Option<String>,
    /// Read properties from a Java client or librdkafka configuration file
    #[arg(id = "every_file", short = 'F', long = "config-file", global = true, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Set a property by its Java client or librdkafka name; overrides -F
    // Not `global`: of a global argument clap keeps what stands behind the last command alone; see [`Cli`].
    #[arg(short = 'X', long = "property", value_name = "NAME=VALUE", action = ArgAction::Append)]
    properties: Vec<String>,
    /// Run commands that properties refer to with ${command:LINE}, whoever set them
    #[arg(long, global = true)]
    allow_commands: bool,
    /// Client engine: native for Kafka 0.11 and later, kafka for earlier brokers
    #[arg(long, global = true, value_enum, default_value_t)]
    engine: EngineArg,
    /// Log more to stderr (-vv and -vvv for even more)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Format of messages on stderr
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum EngineArg {
    /// Choose by the broker's version
    #[default]
    Auto,
    /// kpipe's own client, for Kafka 0.11 and later
    Native,
    /// The `kafka` crate, for Kafka 0.8.2 to 3.9
    Kafka,
}

impl From<EngineArg> for EngineChoice {
    fn from(typed: EngineArg) -> Self {
        match typed {
            EngineArg::Auto => Self::Auto,
            EngineArg::Native => Self::Native,
            EngineArg::Kafka => Self::Kafka,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum LogFormat {
    /// Plain text
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Produce records from lines, JSON or CSV
    Produce(Box<produce::Produce>),
    /// Consume records as JSON, values or a custom format
    ///
    /// Prints each record as one JSON object per line, starting at the end of the topic, or with -g at the group's
    /// committed offsets.
    Consume(Box<consume::Consume>),
    /// Manage topics: configs, partitions, records, replicas
    Topics(topics::Topics),
    /// Manage consumer groups: lag, members, offsets
    Groups(groups::Groups),
    /// Manage ACLs
    Acls(acls::Acls),
    /// Manage the cluster: brokers, health, configs, users, transactions
    Cluster(cluster::Cluster),
    /// Manage a schema registry: subjects, versions, compatibility
    Schemas(schemas::Schemas),
    /// Run an in-memory Kafka cluster for trials and tests
    Local(local::Local),
    /// Show the effective configuration and where each value comes from
    Config(config::Config),
    /// Generate a shell completion script
    #[command(after_help = "Examples:\n  kpipe completions bash >~/.local/share/bash-completion/completions/kpipe\n  \
        kpipe completions zsh >\"${fpath[1]}/_kpipe\"")]
    Completions {
        /// Shell to generate the script for
        shell: clap_complete::Shell,
    },
    /// Generate the manual page
    Man,
}

/// The command line, parsed: `-X` may stand before and behind a command, and all of them count. Of an argument that is
/// global to clap only those behind the last command would.
#[derive(Debug)]
pub struct Cli(Arguments);

impl Parser for Cli {}

impl CommandFactory for Cli {
    fn command() -> clap::Command {
        with_properties_everywhere(Arguments::command())
    }

    fn command_for_update() -> clap::Command {
        with_properties_everywhere(Arguments::command_for_update())
    }
}

impl FromArgMatches for Cli {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut arguments = Arguments::from_arg_matches(matches)?;
        let levels = successors(Some(matches), |matches| matches.subcommand().map(|(_, matches)| matches));
        arguments.global.properties =
            levels.filter_map(|matches| matches.get_many(PROPERTIES)).flatten().cloned().collect();
        Ok(Self(arguments))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Gives each command the argument `-X` of the root.
fn with_properties_everywhere(root: clap::Command) -> clap::Command {
    fn with(command: clap::Command, argument: &Arg) -> clap::Command {
        command.mut_subcommands(|command| with(command.arg(argument), argument))
    }
    let argument = root.get_arguments().find(|argument| argument.get_id() == PROPERTIES).cloned();
    match argument {
        Some(argument) => with(root, &argument),
        None => root,
    }
}

impl Command {
    /// The one topic that the command is about, whose settings in a profile apply.
    fn topic(&self) -> Option<&str> {
        match self {
            Self::Produce(produce) => produce.only_topic(),
            Self::Consume(consume) => consume.only_topic(),
            Self::Config(config) => config.only_topic(),
            _ => None,
        }
    }

    /// What to do when the cluster denied something.
    fn advice(&self, error: &Error, security: &Security) -> Option<String> {
        let next = |kind| match (self, kind) {
            // Since Kafka 3.0 write on a topic allows to be idempotent (KIP-679): who may not lacks both.
            (Self::Produce(produce), ResourceType::Cluster) => {
                produce.only_topic().map(|topic| (Operation::Write, ResourceType::Topic, topic.to_owned()))
            }
            _ => None,
        };
        let transactional_id = match self {
            Self::Produce(produce) => produce.transactional_id(),
            _ => None,
        };
        denied::explain(error, security, |kind| self.operation(kind, error), next, transactional_id)
    }

    /// What it lacks when the cluster denies it a resource of `kind`.
    fn operation(&self, kind: ResourceType, error: &Error) -> Operation {
        match self {
            Self::Produce(_) => match kind {
                ResourceType::Cluster => Operation::IdempotentWrite,
                // --create-topic
                _ if matches!(error, Error::Kafka { action: Action::CreateTopic, .. }) => Operation::Create,
                _ => Operation::Write,
            },
            Self::Consume(_) => Operation::Read,
            Self::Topics(topics) => topics.operation(),
            Self::Groups(groups) => groups.operation(kind),
            Self::Acls(acls) => acls.operation(),
            Self::Cluster(cluster) => cluster.operation(),
            Self::Schemas(_) | Self::Local(_) | Self::Config(_) | Self::Completions { .. } | Self::Man => {
                Operation::All
            }
        }
    }
}

/// What the run of a command needs.
#[derive(Clone)]
struct Context {
    options: Options,
    properties: Properties,
    metrics: Metrics,
    stop: Stop,
    quiet: bool,
}

impl Context {
    fn connect(&self) -> Result<Engine> {
        Engine::connect(&self.options, &self.stop)
    }

    /// Connects for administration; `what` is asked for.
    fn admin(&self, what: &str) -> Result<NativeAdmin> {
        self.connect()?.admin(what)
    }
}

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong.
    pub error: anyhow::Error,
    /// The commands that would allow what the cluster denied, as lines for the user.
    pub advice: Option<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.error)?;
        self.error.downcast_ref().and_then(hints::hint).map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), advice: None }
    }
}

/// Tells the user why a command failed.
pub fn report_failure(failure: &Failure) {
    // `kpipe consume t | head -1`: the reader closed the pipe, and has what it asked for.
    if !matches!(failure.error.downcast_ref(), Some(Error::ReaderGone)) {
        report::tell(failure);
    }
    report::block(failure.advice.as_deref().unwrap_or_default());
}

/// Runs the command. Returns the exit code.
///
/// # Errors
/// Why it failed, to be shown to the user.
pub fn run(cli: Cli) -> Result<u8, Failure> {
    let Cli(Arguments { global, command }) = cli;
    match command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "kpipe", &mut script);
            listing::print_bytes(&script)?;
            return Ok(EXIT_OK);
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(|e| Error::io("the manual page", &e))?;
            listing::print_bytes(&page)?;
            return Ok(EXIT_OK);
        }
        _ => {}
    }
    logging::start(&global)?;
    let properties = properties(&global, command.topic())?;
    if let Command::Config(config) = &command {
        return Ok(config.run(&properties)?);
    }
    let (properties, metrics) = (properties.looked_up()?, Metrics::default());
    let options = crate::config::options(global.engine.into(), &properties, Arc::new(metrics.clone()))?;
    let context = Context { options, properties, metrics, stop: Stop::on_signals()?, quiet: global.quiet };
    let reads_only = matches!(command, Command::Consume(_));
    let mut command = command;
    let done = match &mut command {
        Command::Produce(produce) => produce.run(&context),
        Command::Consume(consume) => consume.run(&context),
        Command::Topics(topics) => topics.run(&context).map_err(Into::into),
        Command::Groups(groups) => groups.run(&context),
        Command::Acls(acls) => acls.run(&context).map_err(Into::into),
        Command::Cluster(cluster) => cluster.run(&context).map_err(Into::into),
        Command::Schemas(schemas) => schemas.run(&context).map_err(Into::into),
        Command::Local(local) => local.run(&context),
        // They ran above, without a cluster.
        Command::Config(_) | Command::Completions { .. } | Command::Man => return Ok(EXIT_OK),
    };
    match done {
        // A signal before the work had begun: a reader has nothing to finish, the others did not do what was asked. A
        // second signal may have kept a reader from committing.
        Err(error) if matches!(error.downcast_ref(), Some(Error::Stopped)) => {
            Ok(if reads_only && context.stop.signals() < 2 { EXIT_OK } else { context.stop.exit_code() })
        }
        Err(failure) => {
            let advice = failure.downcast_ref().and_then(|error| command.advice(error, &context.options.security));
            Err(Failure { advice, error: failure })
        }
        Ok(code) => Ok(code),
    }
}

/// The properties of all sources; `topic` has settings of its own in a profile.
fn properties(global: &Global, topic: Option<&str>) -> Result<Properties> {
    let config = config_file();
    Properties::collect(&Sources {
        config: config.as_ref(),
        environment: std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect(),
        profile: global.profile.as_deref(),
        topic,
        file: global.file.as_deref(),
        settings: &global.properties,
        brokers: global.brokers.as_deref(),
        allow_commands: global.allow_commands,
    })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    #[test]
    fn properties_before_and_behind_a_command_all_count() {
        let typed = ["kpipe", "-X", "a=1", "topics", "-X", "b=2", "list", "-X", "c=3", "--property", "d=4"];
        let parsed = super::Cli::try_parse_from(typed).unwrap();
        assert_eq!(parsed.0.global.properties, ["a=1", "b=2", "c=3", "d=4"]);
    }

    #[test]
    fn no_two_arguments_contradict_each_other() {
        super::Cli::command().debug_assert();
    }

    /// A command's own argument of a global one's id would be taken for it.
    #[test]
    fn no_command_has_an_argument_of_a_global_ones_id() {
        fn check(command: &clap::Command, global: &[String]) {
            for arg in command.get_arguments().filter(|arg| !arg.is_global_set()) {
                // `local --brokers N` is meant to stand in the place of the global one.
                let id = arg.get_id().as_str();
                assert!(
                    command.get_name() == "local" || !global.iter().any(|g| g == id),
                    "{}: {id}",
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(|sub| check(sub, global));
        }
        let cli = super::Cli::command();
        let global: Vec<String> =
            cli.get_arguments().filter(|arg| arg.is_global_set()).map(|arg| arg.get_id().to_string()).collect();
        assert!(global.len() > 5);
        check(&cli, &global);
    }
}
