//! DPDK's environment abstraction layer: once per process, on a thread of its own.
//!
//! Called by the platform's control code. `rte_eal_init` pins the thread that calls it, and all
//! that is made by that thread later inherits the pin: so it gets a thread of its own, which lives
//! as long as the process and also runs every later control call (hot-plug, pools), one at a time.
//!
//! ```text
//!   caller ──Eal::get()──▶ thread "mvmp-eal": signals blocked, rte_eal_init, pinned to one CPU
//!   caller ──eal.run(job)─▶ queue ─▶ the same thread ─▶ result back to the caller, who waits
//! ```
//!
//! Invariants: DPDK can be initialised once per process, so what is possible (huge pages?) is
//! probed *before*, and a failure is kept and told to everyone who asks; nothing is printed: EAL's
//! log is kept in memory and quoted in errors; the caller's own affinity and signal mask are left alone.

use std::any::Any;
use std::ffi::{CStr, CString, c_char, c_int};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread::ThreadId;

use super::probe::{self, HugePages};

/// EAL's own heap without huge pages: rings, ports, data-less mbufs. Reserved, not touched.
const PLAIN_HEAP_MIB: &str = "256";

type Job = Box<dyn FnOnce() + Send>;

/// DPDK, initialised. There is one per process, for ever.
pub struct Eal {
    jobs: Sender<Job>,
    thread: ThreadId,
    facts: EalFacts,
}

/// Why DPDK could not be initialised, or a thread could not join it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("DPDK does not start: {what}{}", said(.log))]
pub struct EalError {
    /// What failed.
    pub what: String,
    /// What EAL logged about it; may be empty.
    pub log: String,
}

/// EAL's words as the tail of a sentence.
pub(super) fn said(log: &str) -> String {
    match log.trim() {
        "" => String::new(),
        log => format!("; DPDK said: {}", log.replace('\n', " | ")),
    }
}

/// What was found when DPDK was initialised.
#[derive(Debug, Clone)]
pub struct EalFacts {
    /// `DPDK 22.11.11`
    pub dpdk_version: String,
    /// Whether EAL's own memory is on huge pages.
    pub huge_pages: bool,
    /// The page size of EAL's own memory. (A pool decides for itself: [`super::Pool::page_bytes`].)
    pub page_bytes: usize,
    /// The effective user.
    pub uid: u32,
    /// Why something better was refused, a sentence each.
    pub refused: Vec<String>,
}

impl EalFacts {
    /// One line for people.
    pub fn line(&self) -> String {
        let pages = if self.huge_pages { "huge" } else { "plain" };
        let user = if self.uid == 0 {
            "root".to_owned()
        } else {
            format!("user {}", self.uid)
        };
        let mut line = format!(
            "{}, {pages} pages of {} KiB, {user}",
            self.dpdk_version,
            self.page_bytes / 1024
        );
        if !self.refused.is_empty() {
            line.push_str(&format!(" ({})", self.refused.join("; ")));
        }
        line
    }
}

static EAL: OnceLock<Result<Eal, EalError>> = OnceLock::new();

impl Eal {
    /// The process's EAL, initialised by the first call. It is never torn down.
    ///
    /// # Errors
    /// What DPDK said when it could not be initialised; the same each time.
    pub fn get() -> Result<&'static Eal, EalError> {
        EAL.get_or_init(start).as_ref().map_err(Clone::clone)
    }

    /// What was found.
    pub fn facts(&self) -> &EalFacts {
        &self.facts
    }

    /// Runs a job on the EAL thread and waits for its result; at once when called there.
    ///
    /// # Panics
    /// With the job's own panic.
    pub fn run<R: Send>(&self, job: impl FnOnce() -> R + Send) -> R {
        if std::thread::current().id() == self.thread {
            return job();
        }
        let (result, outcome) = channel::<Result<R, Box<dyn Any + Send>>>();
        let boxed: Box<dyn FnOnce() + Send + '_> = Box::new(move || {
            let _ = result.send(catch_unwind(AssertUnwindSafe(job)));
        });
        // SAFETY: only the lifetime is changed, and this function does not return before the job
        // has run or was dropped: `recv` ends with a result or when the job's sender is dropped.
        let boxed: Job = unsafe { std::mem::transmute(boxed) };
        self.jobs.send(boxed).expect("the EAL thread never ends");
        match outcome.recv().expect("the EAL thread runs each job") {
            Ok(value) => value,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// What EAL and its drivers have logged since the last call.
    pub fn take_log(&self) -> String {
        take_log()
    }
}

fn take_log() -> String {
    let mut bytes = vec![0u8; 16384];
    // SAFETY: the buffer has as many bytes as we say.
    let taken = unsafe { dpdk_sys::dpdk_sys_log_take(bytes.as_mut_ptr().cast(), bytes.len()) };
    String::from_utf8_lossy(&bytes[..taken]).trim().to_owned()
}

fn start() -> Result<Eal, EalError> {
    let no_thread = |error: &dyn std::fmt::Display| EalError {
        what: format!("no thread for it: {error}"),
        log: String::new(),
    };
    let huge = probe::huge_pages();
    let arguments = arguments(&huge);
    let (jobs, queue) = channel::<Job>();
    let (report, started) = channel();
    let spawned = {
        // EAL's own threads inherit the mask too: signals belong to the program, not to DPDK.
        let _blocked = BlockedSignals::all();
        std::thread::Builder::new()
            .name("mvmp-eal".into())
            .spawn(move || {
                let outcome = initialise(arguments);
                let go_on = outcome.is_ok();
                let _ = report.send(outcome);
                while let (true, Ok(job)) = (go_on, queue.recv()) {
                    job();
                }
            })
    };
    let thread = spawned.map_err(|error| no_thread(&error))?.thread().id();
    let dpdk_version = started.recv().map_err(|error| no_thread(&error))??;
    let facts = EalFacts {
        dpdk_version,
        huge_pages: huge.usable,
        page_bytes: if huge.usable {
            probe::HUGE_PAGE_BYTES
        } else {
            rustix::param::page_size()
        },
        uid: rustix::process::geteuid().as_raw(),
        refused: huge.refused,
    };
    Ok(Eal {
        jobs,
        thread,
        facts,
    })
}

/// The command line that EAL gets. It keeps pointers into it: [`initialise`] leaks it.
fn arguments(huge: &HugePages) -> Vec<CString> {
    let main_lcore = format!("--lcores=0@{}", probe::first_allowed_cpu());
    let mut words = vec!["mvmp", "--no-telemetry", main_lcore.as_str()];
    if huge.usable {
        // PCI devices are plugged one by one, by name: the allow-list of a device that does not
        // exist keeps EAL from seizing all that it finds.
        words.extend(["--in-memory", "-a", "ffff:ff:1f.7"]);
    } else {
        words.extend(["--no-huge", "--no-shconf", "-m", PLAIN_HEAP_MIB, "--no-pci"]);
    }
    let text = |word: &str| CString::new(word).expect("no argument of ours contains a NUL");
    words.into_iter().map(text).collect()
}

/// On the EAL thread. Returns DPDK's version.
fn initialise(arguments: Vec<CString>) -> Result<String, EalError> {
    let shown = arguments
        .iter()
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    let argv: Vec<*mut c_char> = arguments
        .into_iter()
        .map(CString::into_raw)
        .chain([std::ptr::null_mut()])
        .collect();
    let argv = argv.leak();
    let argc = c_int::try_from(argv.len() - 1).expect("a dozen arguments");
    // SAFETY: called once, before anything else of DPDK; argv lives for ever and ends with NULL.
    let (taken, errno) = unsafe {
        dpdk_sys::dpdk_sys_log_capture();
        (
            dpdk_sys::rte_eal_init(argc, argv.as_mut_ptr()),
            dpdk_sys::dpdk_sys_errno(),
        )
    };
    let log = take_log();
    if taken < 0 {
        return Err(EalError {
            what: format!("`{shown}`: {}", error_text(errno)),
            log,
        });
    }
    Ok(version())
}

/// `DPDK 22.11.11`; needs no initialisation.
pub fn version() -> String {
    // SAFETY: returns a static string.
    unsafe { CStr::from_ptr(dpdk_sys::rte_version()) }
        .to_string_lossy()
        .into_owned()
}

/// DPDK's words for an errno, positive or negative.
pub(super) fn error_text(errno: c_int) -> String {
    // SAFETY: returns a string of this thread that is valid until its next call; copied at once.
    unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(errno.abs())) }
        .to_string_lossy()
        .into_owned()
}

/// All signals are blocked in the calling thread while this lives, and in threads that it spawns
/// for ever.
pub struct BlockedSignals {
    before: libc::sigset_t,
    _not_send: PhantomData<*const ()>,
}

impl BlockedSignals {
    /// Blocks them.
    pub fn all() -> BlockedSignals {
        // SAFETY: both sets are plain words on our stack, filled before they are read.
        unsafe {
            let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            BlockedSignals {
                before,
                _not_send: PhantomData,
            }
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the mask that this same thread had before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
    }
}

/// A thread that DPDK knows (lcore id, mempool caches) for as long as this lives.
///
/// Whoever spawns the thread holds [`BlockedSignals`] while doing so. Before this is dropped the
/// thread gives its caches back ([`super::Pool::flush_cache`]), else they wait for the next lcore of that number.
pub struct WorkerLcore {
    id: u32,
    _not_send: PhantomData<*const ()>,
}

impl WorkerLcore {
    /// Registers the calling thread.
    ///
    /// # Errors
    /// No EAL, or all of DPDK's lcore numbers are in use.
    pub fn register() -> Result<WorkerLcore, EalError> {
        Eal::get()?;
        // SAFETY: EAL is initialised; the calls concern this thread.
        let (failed, errno, id) = unsafe {
            (
                dpdk_sys::rte_thread_register(),
                dpdk_sys::dpdk_sys_errno(),
                dpdk_sys::dpdk_sys_lcore_id(),
            )
        };
        if failed != 0 {
            let what = format!(
                "a worker thread cannot be registered: {}",
                error_text(errno)
            );
            return Err(EalError {
                what,
                log: take_log(),
            });
        }
        Ok(WorkerLcore {
            id,
            _not_send: PhantomData,
        })
    }

    /// DPDK's number of this thread.
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for WorkerLcore {
    fn drop(&mut self) {
        // SAFETY: registered by this thread, which it cannot have left (`!Send`).
        unsafe { dpdk_sys::rte_thread_unregister() };
    }
}

/// The time stamp counter.
#[inline]
pub fn rdtsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads a register.
    return unsafe { std::arch::x86_64::_rdtsc() };
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: reads a register.
    unsafe {
        dpdk_sys::dpdk_sys_rdtsc()
    }
}

/// Ticks of [`rdtsc`] per second, as EAL measured them.
pub fn tsc_hz(_eal: &Eal) -> u64 {
    // SAFETY: EAL is initialised, as its reference shows.
    unsafe { dpdk_sys::dpdk_sys_tsc_hz() }
}
