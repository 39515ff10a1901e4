//! DPDK's environment in a process like any other.

use mvmp_core::dpdk::Eal;

#[test]
fn the_environment_says_what_it_found_in_one_line() {
    let facts = Eal::get().unwrap().facts();
    let line = facts.line();
    println!("{line}");
    assert!(line.starts_with("DPDK ") && !line.contains('\n'));
    assert_eq!(facts.huge_pages, facts.refused.is_empty());
}

#[test]
fn callers_keep_their_own_affinity_and_signals() {
    let before = rustix::thread::sched_getaffinity(None).unwrap();
    Eal::get().unwrap();
    assert!(before == rustix::thread::sched_getaffinity(None).unwrap());
    // SAFETY: fills a set of ours.
    let blocked = unsafe {
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut mask);
        libc::sigismember(&mask, libc::SIGTERM)
    };
    assert_eq!(blocked, 0);
}

#[test]
fn jobs_run_on_one_thread_return_their_value_and_may_nest() {
    let eal = Eal::get().unwrap();
    let local = String::from("borrowed");
    let (first, second) = (
        eal.run(|| std::thread::current().id()),
        eal.run(|| eal.run(|| std::thread::current().id())),
    );
    assert_eq!(first, second);
    assert_ne!(first, std::thread::current().id());
    assert_eq!(eal.run(|| local.len()), 8);
}

#[test]
fn a_job_that_panics_panics_its_caller_alone() {
    let eal = Eal::get().unwrap();
    let outcome = std::panic::catch_unwind(|| eal.run(|| panic!("on purpose")));
    assert!(outcome.is_err());
    assert_eq!(eal.run(|| 7), 7);
}
