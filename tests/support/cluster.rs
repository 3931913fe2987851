//! Clusters: real Kafka, started by `scripts/kafka run`, which ends with this process; and `kpipe local`.

use super::command::{Done, run, shell};
use super::{Kafka, Tool, Version, all_tests};
use kpipe::local::{Local, Options};
use kpipe::signal::Stop;
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

/// The exit code of `timeout` when the time is up.
const TIMED_OUT: i32 = 124;

/// A running cluster.
pub struct Cluster {
    pub kafka: Kafka,
    /// `host:port,…`
    pub bootstrap: String,
    pub dir: std::path::PathBuf,
    /// `scripts/kafka run`: when its stdin closes, the cluster stops and its data is deleted.
    child: Option<Child>,
    restarted: Vec<Child>,
    local: Option<Local>,
}

/// How to start a broker that was stopped.
pub struct Stopped {
    words: Vec<String>,
}

/// Where the jars of a version are.
fn libs(version: Version) -> String {
    let fetch = format!("{}/scripts/kafka fetch --version {}", env!("CARGO_MANIFEST_DIR"), version.number());
    shell(&fetch).stdout.trim().to_owned()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in &mut self.restarted {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(child) = &mut self.child {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

/// The one-broker cluster that all tests of this process share.
pub fn shared(kafka: Kafka) -> Arc<Cluster> {
    type Shared = Mutex<HashMap<Kafka, Arc<OnceLock<Arc<Cluster>>>>>;
    static SHARED: OnceLock<Shared> = OnceLock::new();
    let slot = SHARED.get_or_init(Shared::default).lock().unwrap().entry(kafka).or_default().clone();
    // The partitions of topics that their first use creates.
    let configs: &[&str] = if kafka.has_create_topics() { &[] } else { &["num.partitions=3"] };
    let start = || match kafka {
        Kafka::Real(version) => Cluster::start(version, 1, configs),
        Kafka::Local => Cluster::start_local(1),
    };
    slot.get_or_init(|| Arc::new(start())).clone()
}

/// The newest Kafka if all tests were asked for, `kpipe local` otherwise: for tests that pass on both.
pub fn latest_or_local() -> Arc<Cluster> {
    shared(if all_tests() { Kafka::LATEST } else { Kafka::Local })
}

/// The shared cluster of each, without the real ones unless all tests were asked for.
pub fn each(kafkas: impl IntoIterator<Item = Kafka>) -> impl Iterator<Item = Arc<Cluster>> {
    kafkas.into_iter().filter(|kafka| kafka.is_asked_for()).map(shared)
}

/// Clusters, and the group protocols that they serve.
pub fn each_with_protocols() -> impl Iterator<Item = (Arc<Cluster>, &'static str)> {
    let classic = each([Kafka::LATEST, Kafka::Real(Version::V3_9), Kafka::Local]).map(|kafka| (kafka, "classic"));
    each([Kafka::LATEST]).map(|kafka| (kafka, "consumer")).chain(classic)
}

impl std::fmt::Display for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.kafka.fmt(f)
    }
}

impl Cluster {
    /// The version of Kafka, or the one that `kpipe local` behaves like.
    pub fn version(&self) -> Version {
        self.kafka.version()
    }

    pub fn start(version: Version, brokers: u32, configs: &[&str]) -> Self {
        Self::start_with(version, brokers, configs, &[])
    }

    /// One broker with TLS and SASL listeners as well.
    pub fn start_secure(version: Version, configs: &[&str]) -> Self {
        Self::start_with(version, 1, configs, &["--secure"])
    }

    fn start_with(version: Version, brokers: u32, configs: &[&str], flags: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("kpipe-kafka-").tempdir().unwrap().keep();
        Self::start_in(dir, version, brokers, configs, flags)
    }

    /// Starts in a directory that may have what is to be there first.
    pub fn start_in(dir: std::path::PathBuf, version: Version, brokers: u32, configs: &[&str], flags: &[&str]) -> Self {
        let mut child = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka"))
            .args(["run", "--version", version.number(), "--port", "0", "--brokers", &brokers.to_string()])
            .arg("--dir")
            .arg(&dir)
            .args(flags)
            .args(configs.iter().flat_map(|config| ["--config", config]))
            .env("KPIPE_KAFKA_HEAP", "384m")
            .env("KPIPE_KAFKA_JIT", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut bootstrap = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut bootstrap).unwrap();
        let bootstrap = bootstrap.trim().to_owned();
        assert!(!bootstrap.is_empty(), "Kafka {} did not start", version.number());
        let kafka = Kafka::Real(version);
        Self { kafka, bootstrap, dir, child: Some(child), restarted: Vec::new(), local: None }
    }

    /// A `kpipe local` of its own.
    pub fn start_local(brokers: u16) -> Self {
        // Below the ports that are given to outgoing connections: a broker that is down finds its own free again.
        let start = |port| {
            let options = Options { brokers, port, topics: Vec::new(), retain_bytes: 1 << 30 };
            Local::start(&options, &Stop::default())
        };
        let mut tries = 0;
        let local = loop {
            match start(fastrand::u16(10_000..32_000)) {
                Ok(local) => break local,
                Err(e) => assert!(tries < 50, "{e}"),
            }
            tries += 1;
        };
        let (bootstrap, dir) = (local.bootstrap(), std::path::PathBuf::new());
        Self { kafka: Kafka::Local, bootstrap, dir, child: None, restarted: Vec::new(), local: Some(local) }
    }

    /// The in-memory cluster, to inject faults into it.
    pub fn local(&self) -> &Local {
        self.local.as_ref().unwrap()
    }

    /// Runs `kpipe -b … ARGS`, which must exit with 0.
    pub fn kpipe(&self, args: &[&str], stdin: &[u8]) -> Done {
        let done = self.try_kpipe(args, stdin);
        assert_eq!(done.code, 0, "kpipe {args:?} on {}: {}", self.kafka, done.stderr);
        done
    }

    /// Runs `kpipe -b … ARGS`.
    pub fn try_kpipe(&self, args: &[&str], stdin: &[u8]) -> Done {
        super::kpipe(&[&["-b", &self.bootstrap], args].concat(), stdin)
    }

    /// Creates a topic with a unique name; before Kafka 0.10.1 its first use creates it.
    pub fn topic(&self, name: &str, partitions: u32) -> String {
        let name = super::fresh(name);
        if self.kafka.has_create_topics() {
            self.kpipe(&["topics", "create", &name, "--partitions", &partitions.to_string()], b"");
        }
        name
    }

    /// The process of broker `n`, from 1.
    pub fn pid(&self, n: u32) -> i32 {
        std::fs::read_to_string(self.dir.join(format!("broker-{n}.pid"))).unwrap().trim().parse().unwrap()
    }

    /// Java with one of this version's tools; `prefix` is the program and arguments that run it.
    fn java_from(&self, prefix: &[&str], tool: Tool) -> Command {
        let version = self.version();
        let libs = libs(version);
        let words = [prefix, &["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]].concat();
        let mut java = Command::new(words[0]);
        let token = self.dir.join("secure/token");
        if token.exists() {
            let allowed = format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://{}", token.display());
            java.env("JDK_JAVA_OPTIONS", allowed);
        }
        java.args(&words[1..]).arg(format!("{libs}/*")).arg(version.class(tool));
        java
    }

    fn java(&self, tool: Tool) -> Command {
        self.java_from(&["timeout", "240"], tool)
    }

    /// The values of all committed records, in order.
    pub fn values(&self, topic: &str) -> Vec<String> {
        super::values(&self.kpipe(&["consume", topic, "-o", "beginning", "-e"], b"").stdout)
    }

    /// The partition of each key.
    pub fn partition_by_key(&self, topic: &str) -> std::collections::BTreeMap<String, i64> {
        let read = self.kpipe(&["consume", topic, "-o", "beginning", "-e"], b"");
        let entry = |r: &serde_json::Value| (r["key"].as_str().unwrap().to_owned(), r["partition"].as_i64().unwrap());
        super::json_lines(&read.stdout).iter().map(entry).collect()
    }

    /// Runs one of Kafka's own command-line tools against a listener.
    pub fn try_tool_at(&self, bootstrap: &str, tool: Tool, args: &[&str]) -> Done {
        let mut java = self.java(tool);
        java.args(["--bootstrap-server", bootstrap]).args(args);
        if tool == Tool::ConsumerGroupCommand {
            // Instead of 5 s, which are few on a busy machine.
            java.args(["--timeout", "60000"]);
        }
        run(java, b"")
    }

    /// Runs one of Kafka's own command-line tools, which must exit with 0; returns its stdout.
    pub fn tool(&self, tool: Tool, args: &[&str]) -> String {
        let done = self.try_tool_at(&self.bootstrap, tool, args);
        assert_eq!(done.code, 0, "{tool:?}: {}{}", done.stdout, done.stderr);
        done.stdout
    }

    /// Kills broker `n` with SIGKILL and starts it again with its data.
    pub fn crash_and_restart(&mut self, n: u32) {
        let stopped = self.stop(n, libc::SIGKILL);
        self.start_again(n, &stopped, None);
    }

    /// Ends broker `n` by a signal, and waits until it has exited.
    pub fn stop(&mut self, n: u32, signal: i32) -> Stopped {
        let pid = self.pid(n);
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let words = command.split(|byte| *byte == 0).map(|word| String::from_utf8(word.to_vec()).unwrap());
        let stopped = Stopped { words: words.filter(|word| !word.is_empty()).collect() };
        super::send_signal(pid, signal);
        self.wait_for_exit(n);
        stopped
    }

    /// Waits until broker `n` has exited, by itself or by a signal.
    pub fn wait_for_exit(&mut self, n: u32) {
        let pid = self.pid(n);
        super::wait_until("the broker has exited", || {
            for child in &mut self.restarted {
                let _ = child.try_wait();
            }
            // A zombie process has an empty command line.
            std::fs::read(format!("/proc/{pid}/cmdline")).map_or(true, |line| line.is_empty())
        });
    }

    /// Starts broker `n` again with its data, with another version of Kafka if one is given.
    pub fn start_again(&mut self, n: u32, stopped: &Stopped, version: Option<Version>) {
        let mut words = stopped.words.clone();
        if let (Some(version), Some(at)) = (version, words.iter().position(|word| word == "-cp")) {
            words[at + 1] = format!("{}/*", libs(version));
        }
        let log = std::fs::File::options().append(true).create(true).open(self.dir.join("restarted.log")).unwrap();
        let address = self.bootstrap.split(',').nth(n as usize - 1).unwrap().to_owned();
        // With ZooKeeper it exits again while the old process is still registered.
        let child = loop {
            let mut java = Command::new(&words[0]);
            java.args(&words[1..])
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log.try_clone().unwrap());
            let mut child = java.spawn().unwrap();
            let mut ended = false;
            super::wait_until("the broker answers", || {
                ended = child.try_wait().unwrap().is_some();
                // It may answer before it is registered, and then exit; until then it has no topics.
                ended || super::kpipe(&["-b", &address, "topics", "list"], b"").stdout.lines().count() > 1
            });
            if !ended {
                break child;
            }
        };
        std::fs::write(self.dir.join(format!("broker-{n}.pid")), child.id().to_string()).unwrap();
        self.restarted.push(child);
    }

    /// Runs Kafka's own console producer.
    pub fn console_produce(&self, topic: &str, args: &[&str], stdin: &[u8]) {
        let mut java = self.java(Tool::ConsoleProducer);
        java.args([self.version().producer_bootstrap_flag(), &self.bootstrap, "--topic", topic]).args(args);
        let done = run(java, stdin);
        assert_eq!(done.code, 0, "{}", done.stderr);
    }

    /// The same with keyed lines, with `separator` between key and value.
    pub fn console_produce_keyed(&self, topic: &str, separator: &str, stdin: &[u8]) {
        let (flag, separator) = (self.version().reader_property_flag(), format!("key.separator={separator}"));
        self.console_produce(topic, &[flag, "parse.key=true", flag, &separator], stdin);
    }

    /// Reads `count` records from the beginning with Kafka's own console consumer.
    pub fn console_consume(&self, topic: &str, count: usize, args: &[&str]) -> String {
        self.console_consume_at(&self.bootstrap, topic, count, args)
    }

    /// The same at another listener.
    pub fn console_consume_at(&self, bootstrap: &str, topic: &str, count: usize, args: &[&str]) -> String {
        let max = count.to_string();
        let read = || {
            let mut java = self.java(Tool::ConsoleConsumer);
            java.args(["--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning", "--max-messages", &max]);
            java.args(args);
            run(java, b"")
        };
        let mut done = read();
        // On a loaded machine Java may not join its group in time; a record that does not exist is missed again.
        if done.code == TIMED_OUT {
            done = read();
        }
        assert_eq!(done.code, 0, "exit code {}: {}{}", done.code, done.stdout, done.stderr);
        done.stdout
    }

    /// Starts Kafka's own console consumer as a member of `group`.
    pub fn console_member(&self, topic: &str, group: &str, args: &[&str]) -> super::Running {
        // Java is the process itself: `timeout` could be killed without it.
        let mut java = self.java_from(&[], Tool::ConsoleConsumer);
        java.args(["--bootstrap-server", &self.bootstrap, "--topic", topic, "--group", group, "--from-beginning"]);
        java.args(args);
        super::Running::start(java)
    }

    /// Reads one partition with the consumer of Kafka before 0.9.
    pub fn simple_consume(&self, topic: &str, partition: u32, args: &[&str]) -> String {
        let mut java = self.java(Tool::SimpleConsumerShell);
        java.args(["--broker-list", &self.bootstrap, "--topic", topic, "--partition", &partition.to_string()]);
        java.args(["--offset", "-2", "--no-wait-at-logend"]).args(args);
        let done = run(java, b"");
        // It logs to stdout.
        done.stdout
            .lines()
            .filter(|line| !line.starts_with("log4j:") && !line.starts_with("Terminating."))
            .map(|line| format!("{line}\n"))
            .collect()
    }
}
