//! Real Kafka, started once a test run by `scripts/kafka run`, which ends with this process.

use super::command::{Done, run, shell};
use kpipe::local::{Local, Options};
use kpipe::signal::Stop;
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

/// A running cluster.
pub struct Cluster {
    pub version: &'static str,
    /// `host:port,…`
    pub bootstrap: String,
    pub dir: std::path::PathBuf,
    /// Holds its stdin open: when that closes, the cluster ends and deletes its data.
    child: Option<Child>,
    restarted: Vec<Child>,
    /// What version "local" is instead.
    local: Option<Local>,
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

/// The one-broker cluster of `version` that all tests share; "local" is kpipe's own, in this process.
pub fn brokers(version: &'static str) -> Arc<Cluster> {
    type Shared = Mutex<HashMap<&'static str, Arc<OnceLock<Arc<Cluster>>>>>;
    static SHARED: OnceLock<Shared> = OnceLock::new();
    let slot = SHARED.get_or_init(Shared::default).lock().unwrap().entry(version).or_default().clone();
    // Old brokers only make topics on first use.
    let configs: &[&str] = if version.starts_with("0.") { &["num.partitions=3"] } else { &[] };
    let start = || if version == "local" { Cluster::local(1) } else { Cluster::start(version, 1, configs) };
    slot.get_or_init(|| Arc::new(start())).clone()
}

impl Cluster {
    pub fn start(version: &'static str, brokers: u32, configs: &[&str]) -> Self {
        Self::start_with(version, brokers, configs, &[])
    }

    /// One broker with listeners for TLS and SASL as well.
    pub fn start_secure(version: &'static str, configs: &[&str]) -> Self {
        Self::start_with(version, 1, configs, &["--secure"])
    }

    fn start_with(version: &'static str, brokers: u32, configs: &[&str], flags: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("kpipe-kafka-").tempdir().unwrap().keep();
        let mut child = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka"))
            .args(["run", "--version", version, "--port", "0", "--brokers", &brokers.to_string()])
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
        assert!(!bootstrap.is_empty(), "Kafka {version} did not start");
        Self { version, bootstrap, dir, child: Some(child), restarted: Vec::new(), local: None }
    }

    /// kpipe's own cluster in memory.
    pub fn local(brokers: u16) -> Self {
        let options = Options { brokers, port: 0, topics: Vec::new(), retain_bytes: 1 << 30 };
        let local = Local::start(&options, &Stop::default()).unwrap();
        let (bootstrap, dir) = (local.bootstrap(), std::path::PathBuf::new());
        Self { version: "local", bootstrap, dir, child: None, restarted: Vec::new(), local: Some(local) }
    }

    /// What a cluster in memory can be told to do.
    pub fn faulty(&self) -> &Local {
        self.local.as_ref().unwrap()
    }

    /// `kpipe -b … ARGS` that must end with exit code 0.
    pub fn kpipe(&self, args: &[&str], stdin: &[u8]) -> Done {
        let done = self.try_kpipe(args, stdin);
        assert_eq!(done.code, 0, "kpipe {args:?} on {}: {}", self.version, done.stderr);
        done
    }

    /// `kpipe -b … ARGS`, however it ends.
    pub fn try_kpipe(&self, args: &[&str], stdin: &[u8]) -> Done {
        super::kpipe(&[&["-b", &self.bootstrap], args].concat(), stdin)
    }

    /// A new topic.
    pub fn topic(&self, name: &str, partitions: u32) -> String {
        let name = super::fresh(name);
        if !self.version.starts_with("0.") {
            self.kpipe(&["topics", "create", &name, "--partitions", &partitions.to_string()], b"");
        }
        name
    }

    /// The process of broker `n`, from 1.
    pub fn pid(&self, n: u32) -> i32 {
        std::fs::read_to_string(self.dir.join(format!("broker-{n}.pid"))).unwrap().trim().parse().unwrap()
    }

    /// Java with the tools of this version, from a program that begins like `prefix`.
    fn java_from(&self, prefix: &[&str], class: &str) -> Command {
        let version = if self.local.is_some() { "4.3.1" } else { self.version };
        let libs = shell(&format!("{}/scripts/kafka fetch --version {version}", env!("CARGO_MANIFEST_DIR")));
        let words = [prefix, &["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]].concat();
        let mut java = Command::new(words[0]);
        let token = self.dir.join("secure/token");
        if token.exists() {
            let allowed = format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://{}", token.display());
            java.env("JDK_JAVA_OPTIONS", allowed);
        }
        java.args(&words[1..]).arg(format!("{}/*", libs.stdout.trim())).arg(class);
        java
    }

    fn java(&self, class: &str) -> Command {
        self.java_from(&["timeout", "90"], class)
    }

    /// The values of all records that a reader of committed ones sees, in order.
    pub fn values(&self, topic: &str) -> Vec<String> {
        super::values(&self.kpipe(&["consume", topic, "-o", "beginning", "-e"], b"").stdout)
    }

    /// The partition of each key.
    pub fn places(&self, topic: &str) -> std::collections::BTreeMap<String, i64> {
        let read = self.kpipe(&["consume", topic, "-o", "beginning", "-e"], b"");
        let place = |r: &serde_json::Value| (r["key"].as_str().unwrap().to_owned(), r["partition"].as_i64().unwrap());
        super::json_lines(&read.stdout).iter().map(place).collect()
    }

    /// One of Kafka's own command-line tools, as it ends.
    pub fn try_java_tool(&self, bootstrap: &str, class: &str, args: &[&str]) -> Done {
        let mut java = self.java(class);
        java.args(["--bootstrap-server", bootstrap]).args(args);
        run(java, b"")
    }

    /// One of Kafka's own command-line tools.
    pub fn java_tool(&self, class: &str, args: &[&str]) -> String {
        let done = self.try_java_tool(&self.bootstrap, class, args);
        assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
        done.stdout
    }

    /// Kills broker `n` as a crash would, and starts it anew on its data.
    pub fn crash_and_restart(&mut self, n: u32) {
        let pid = self.pid(n);
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let words: Vec<&str> =
            command.split(|byte| *byte == 0).map(|word| std::str::from_utf8(word).unwrap()).collect();
        assert_eq!(shell(&format!("kill -9 {pid}")).code, 0);
        // What has ended and was not waited for has an empty command line.
        super::wait_until("the broker's end", || {
            std::fs::read(format!("/proc/{pid}/cmdline")).map_or(true, |line| line.is_empty())
        });
        let log = std::fs::File::options().append(true).create(true).open(self.dir.join("restarted.log")).unwrap();
        let args = words[1..].iter().filter(|word| !word.is_empty());
        let args: Vec<&str> = args.copied().collect();
        let address = self.bootstrap.split(',').nth(n as usize - 1).unwrap().to_owned();
        // With ZooKeeper it ends again as long as the one before is registered.
        let child = loop {
            let mut java = Command::new(words[0]);
            java.args(&args).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log.try_clone().unwrap());
            let mut child = java.spawn().unwrap();
            let mut ended = false;
            super::wait_until("the broker", || {
                ended = child.try_wait().unwrap().is_some();
                // It may answer before it is registered, and then end; but then it knows no topic.
                ended || super::kpipe(&["-b", &address, "topics", "list"], b"").stdout.lines().count() > 1
            });
            if !ended {
                break child;
            }
        };
        std::fs::write(self.dir.join(format!("broker-{n}.pid")), child.id().to_string()).unwrap();
        self.restarted.push(child);
    }

    /// Kafka's own console producer.
    pub fn java_produce(&self, topic: &str, args: &[&str], stdin: &[u8]) {
        let class = match self.version {
            "4.3.1" | "local" => "org.apache.kafka.tools.ConsoleProducer",
            _ => "kafka.tools.ConsoleProducer",
        };
        let mut java = self.java(class);
        let broker = if self.version < "2.5" { "--broker-list" } else { "--bootstrap-server" };
        java.args([broker, &self.bootstrap, "--topic", topic]).args(args);
        let done = run(java, stdin);
        assert_eq!(done.code, 0, "{}", done.stderr);
    }

    /// Kafka's own console consumer: `count` records from the beginning.
    pub fn java_consume(&self, topic: &str, count: usize, args: &[&str]) -> String {
        self.java_consume_at(&self.bootstrap, topic, count, args)
    }

    /// The same through another listener.
    pub fn java_consume_at(&self, bootstrap: &str, topic: &str, count: usize, args: &[&str]) -> String {
        let mut java = match self.version {
            "4.3.1" | "3.9.2" | "local" => self.java("org.apache.kafka.tools.consumer.ConsoleConsumer"),
            _ => self.java("kafka.tools.ConsoleConsumer"),
        };
        let max = count.to_string();
        java.args(["--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning", "--max-messages", &max]);
        let done = run(
            args.iter().fold(java, |mut java, arg| {
                java.arg(arg);
                java
            }),
            b"",
        );
        assert_eq!(done.code, 0, "{}", done.stderr);
        done.stdout
    }

    /// Kafka's own console consumer as a member of `group`, until a signal comes.
    pub fn java_member(&self, topic: &str, group: &str, args: &[&str]) -> super::Running {
        // Without a program between that could be killed alone: whoever drops it ends it.
        let mut java = self.java_from(&[], "org.apache.kafka.tools.consumer.ConsoleConsumer");
        java.args(["--bootstrap-server", &self.bootstrap, "--topic", topic, "--group", group, "--from-beginning"]);
        java.args(args);
        super::Running::start(java)
    }

    /// What Kafka before 0.9 has instead: one partition.
    pub fn java_read_partition(&self, topic: &str, partition: u32, args: &[&str]) -> String {
        let mut java = self.java("kafka.tools.SimpleConsumerShell");
        java.args(["--broker-list", &self.bootstrap, "--topic", topic, "--partition", &partition.to_string()]);
        java.args(["--offset", "-2", "--no-wait-at-logend"]).args(args);
        let done = run(java, b"");
        // Its log goes to stdout too.
        done.stdout
            .lines()
            .filter(|line| !line.starts_with("log4j:") && !line.starts_with("Terminating."))
            .map(|line| format!("{line}\n"))
            .collect()
    }
}
