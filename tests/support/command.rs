//! Runs commands with a time limit.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// A command that has ended.
#[derive(Debug)]
pub struct Done {
    pub stdout: String,
    pub bytes: Vec<u8>,
    pub stderr: String,
    /// The exit code: 124 after a timeout, 128 + N after signal N.
    pub code: i32,
}

/// Runs `command` with `stdin`.
pub fn run(mut command: Command, stdin: &[u8]) -> Done {
    let is_kpipe = is_kpipe(&command);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut running = Running::over(child, is_kpipe);
    running.write(stdin);
    running.finish()
}

fn is_kpipe(command: &Command) -> bool {
    let bin = std::ffi::OsStr::new(env!("CARGO_BIN_EXE_kpipe"));
    command.get_program() == bin || command.get_args().any(|arg| arg == bin)
}

/// Runs `kpipe ARGS` with `stdin`, for five minutes at most.
pub fn kpipe(args: &[&str], stdin: &[u8]) -> Done {
    let mut command = Command::new("timeout");
    command.arg("300").arg(env!("CARGO_BIN_EXE_kpipe")).args(args);
    run(command, stdin)
}

/// Runs a line of bash in which `kpipe` is the binary under test.
pub fn shell(line: &str) -> Done {
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_kpipe")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("timeout");
    command.args(["240", "bash", "-c", line]).env("PATH", path);
    run(command, b"")
}

/// The Python that has librdkafka's binding; `scripts/test` installs it.
pub fn python_path() -> String {
    let cache =
        std::env::var("KPIPE_CACHE").unwrap_or_else(|_| format!("{}/.cache/kpipe", std::env::var("HOME").unwrap()));
    format!("{cache}/python/bin/python")
}

/// Runs a Python script that may use librdkafka.
pub fn python(script: &str) -> Done {
    let mut command = Command::new("timeout");
    command.args(["240", &python_path(), "-"]);
    run(command, script.as_bytes())
}

/// Starts a Python script that may use librdkafka; dropping it kills it.
pub fn python_running(script: &str) -> Running {
    let mut command = Command::new(python_path());
    command.args(["-u", "-c", script]);
    Running::start(command)
}

/// Sends a signal to a process that a test started.
#[allow(unsafe_code)]
pub fn send_signal(pid: i32, signal: i32) {
    // SAFETY: kill has no preconditions; the caller has not reaped the process, so the process ID is still in use.
    unsafe { libc::kill(pid, signal) };
}

/// Clock ticks of the processor that a process has used.
pub fn ticks_of(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// A running command.
pub struct Running {
    child: Child,
    /// Then its output must not contain a secret.
    is_kpipe: bool,
    stdin: Option<ChildStdin>,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    seen: Arc<Mutex<Vec<u8>>>,
    told: Arc<Mutex<Vec<u8>>>,
    /// Whether its stdout is not read at the moment.
    paused: Arc<(Mutex<bool>, Condvar)>,
}

impl Running {
    /// Starts `kpipe ARGS` and leaves its stdin open.
    pub fn kpipe(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kpipe"));
        command.args(args);
        Self::start(command)
    }

    /// Starts any command and leaves its stdin open.
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let is_kpipe = is_kpipe(&command);
        Self::over(command.spawn().unwrap(), is_kpipe)
    }

    fn over(mut child: Child, is_kpipe: bool) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let paused = Arc::new((Mutex::new(false), Condvar::new()));
        let pausing = paused.clone();
        let (mut out, mut err, tee) = (child.stdout.take().unwrap(), child.stderr.take().unwrap(), seen.clone());
        let stdout = std::thread::spawn(move || {
            let mut chunk = [0; 65536];
            while let Ok(len @ 1..) = out.read(&mut chunk) {
                drop(pausing.1.wait_while(pausing.0.lock().unwrap(), |paused| *paused).unwrap());
                tee.lock().unwrap().extend_from_slice(&chunk[..len]);
            }
            std::mem::take(&mut *tee.lock().unwrap())
        });
        let told = Arc::new(Mutex::new(Vec::new()));
        let tee = told.clone();
        let stderr = std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(len @ 1..) = err.read(&mut chunk) {
                tee.lock().unwrap().extend_from_slice(&chunk[..len]);
            }
            tee.lock().unwrap().clone()
        });
        let (stdin, stdout, stderr) = (child.stdin.take(), Some(stdout), Some(stderr));
        Self { stdin, child, is_kpipe, stdout, stderr, seen, told, paused }
    }

    /// Writes to its stdin; the command may have ended.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.stdin.as_mut().unwrap().write_all(bytes);
    }

    /// The number of bytes in its stdin that it has not read.
    pub fn unread(&self) -> u64 {
        rustix::io::ioctl_fionread(self.stdin.as_ref().unwrap()).unwrap()
    }

    /// Its stdout so far.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Its stderr so far.
    pub fn told(&self) -> String {
        String::from_utf8_lossy(&self.told.lock().unwrap()).into_owned()
    }

    /// Clock ticks of the processor that it has used: a hundred are a second.
    pub fn ticks(&self) -> u64 {
        ticks_of(self.child.id())
    }

    /// Stops or resumes reading its stdout.
    pub fn set_paused(&self, paused: bool) {
        *self.paused.0.lock().unwrap() = paused;
        self.paused.1.notify_all();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        send_signal(self.child.id() as i32, signal);
    }

    /// Closes its stdin and waits until it exits.
    pub fn finish(mut self) -> Done {
        drop(self.stdin.take());
        self.ended()
    }

    /// Waits until it exits, with its stdin open.
    pub fn ended(mut self) -> Done {
        use std::os::unix::process::ExitStatusExt;
        let bytes = self.stdout.take().unwrap().join().unwrap();
        let stderr = self.stderr.take().unwrap().join().unwrap();
        let status = self.child.wait().unwrap();
        let done = Done {
            stdout: String::from_utf8_lossy(&bytes).into_owned(),
            bytes,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        };
        if self.is_kpipe {
            super::assert_no_secret(&done);
        }
        done
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
