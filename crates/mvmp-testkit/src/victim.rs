//! An NF in a process of its own (`src/bin/victim.rs`), for tests that kill, stop or starve it.

use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal};

/// The process; killed when dropped.
pub struct Victim {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Victim {
    /// Starts `program` (the path of the binary `victim`) with a role's socket and its other words.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(program: &str, socket: &Path, words: &[&str]) -> Self {
        let mut child = Command::new(program)
            .arg(socket)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Self { child, out }
    }

    /// The next line that it prints: `ready` once its devices are open.
    ///
    /// # Panics
    /// When there is none within half a minute.
    pub fn line(&mut self) -> String {
        if self.out.buffer().is_empty() {
            let stdout = self.out.get_ref().as_fd();
            let mut fds = [PollFd::new(&stdout, PollFlags::IN)];
            let ready = poll(
                &mut fds,
                Some(&Timespec {
                    tv_sec: 30,
                    tv_nsec: 0,
                }),
            )
            .unwrap();
            assert!(ready > 0, "the victim says nothing");
        }
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits until its devices are open.
    ///
    /// # Panics
    /// When they are not.
    pub fn await_ready(&mut self) {
        assert_eq!(self.line(), "ready");
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it at once, and returns when it is dead.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Waits for its end; whether that was an orderly one.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn end(mut self) -> bool {
        self.child.wait().unwrap().success()
    }

    /// Whether it is still running.
    ///
    /// # Panics
    /// When it cannot be asked.
    pub fn is_running(&mut self) -> bool {
        std::thread::sleep(Duration::ZERO);
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // One that has ended already is only reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
