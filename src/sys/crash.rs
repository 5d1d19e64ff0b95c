//! Reports of fatal signals (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT) and the software watchdog (SIGALRM).
//! Handlers run in signal context: they write(2) prepared bytes and take no lock and no memory.
//! Addresses of a stack trace are made readable by `addr2line -e aikv ADDRESS`.

use std::ffi::{c_int, c_void};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::process::check;
use super::{log, panic};

const FATAL: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT];

/// Room for the handler when the thread's own stack is what overflowed.
const STACK_BYTES: usize = 128 * 1024;

/// Set by the first crash; a crash while reporting just ends the process.
static REPORTING: AtomicBool = AtomicBool::new(false);

/// Lets fatal signals write a report to the log before they end the process, and SIGALRM write a stack trace
/// without ending it. For the calling thread a separate stack is used.
pub fn install_crash_handler() -> io::Result<()> {
    let stack = Box::leak(vec![0u8; STACK_BYTES].into_boxed_slice());
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: the stack lives for good.
    check(unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) })?;
    // The first walk loads the unwinder, which takes memory: not possible in the handler.
    let mut frames = [std::ptr::null_mut(); 4];
    walk_stack(&mut frames);
    for signal in FATAL {
        set_handler(signal, on_fatal)?;
    }
    set_handler(libc::SIGALRM, on_alarm)
}

/// Leaves fatal signals to the system (option `crash-log-enabled no`).
pub fn remove_crash_handler() {
    for signal in FATAL {
        // SAFETY: the default action is always valid.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Lets a stack trace be logged when `period_ms` pass without a further call; 0 turns it off. The event loop
/// calls it every turn of its cron.
pub fn set_watchdog(period_ms: u64) {
    let value = libc::timeval {
        tv_sec: (period_ms / 1_000) as libc::time_t,
        tv_usec: (period_ms % 1_000 * 1_000) as libc::suseconds_t,
    };
    let once = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let timer = libc::itimerval { it_interval: once, it_value: value };
    // SAFETY: reads `timer` only.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
}

/// Writes to memory that is read-only: the signal that follows is what DEBUG SEGFAULT is for.
pub fn segfault() {
    // SAFETY: a fresh private mapping; the fault that the write causes is the purpose.
    unsafe {
        let (protection, flags) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let page = libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0);
        page.cast::<u8>().write_volatile(b'x');
    }
}

/// Ends the process by SIGABRT whose report has been written already (by the panic hook).
pub(super) fn abort_without_report() -> ! {
    // SAFETY: the default action is always valid.
    unsafe { libc::signal(libc::SIGABRT, libc::SIG_DFL) };
    std::process::abort()
}

type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

fn set_handler(signal: c_int, handler: Handler) -> io::Result<()> {
    // SAFETY: all-zero is a valid `sigaction`, filled below; the handler keeps to what signal context allows.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigemptyset(&mut action.sa_mask);
        check(libc::sigaction(signal, &action, std::ptr::null_mut()))
    }
}

extern "C" fn on_fatal(signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    if !REPORTING.swap(true, Ordering::Relaxed) {
        // SAFETY: the system passes valid information.
        report_fatal(signal, unsafe { &*info });
    }
    // SAFETY: with the default action back, the signal ends the process when the handler returns.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

fn report_fatal(signal: c_int, info: &libc::siginfo_t) {
    put(&[b"\n=== AIKV BUG REPORT START ===\naikv ", env!("CARGO_PKG_VERSION").as_bytes(), b" ("]);
    put(&[env!("AIKV_GIT_SHA1").as_bytes(), b") crashed by signal: "]);
    put_number(signal.unsigned_abs().into(), 10);
    put(&[b", si_code: ", if info.si_code < 0 { b"-" } else { b"" }]);
    put_number(info.si_code.unsigned_abs().into(), 10);
    put(&[b"\n"]);
    if info.si_code <= 0 {
        put(&[b"Sent by process "]);
        // SAFETY: a code of 0 or less says that another process sent the signal and the field is set.
        put_number(unsafe { info.si_pid() }.unsigned_abs().into(), 10);
    } else {
        put(&[b"Address: 0x"]);
        // SAFETY: fatal signals of the processor set the address.
        put_number(unsafe { info.si_addr() }.addr() as u64, 16);
    }
    put(&[b"\n"]);
    put_running();
    put_stack();
    put(&[b"=== AIKV BUG REPORT END ===\n"]);
}

extern "C" fn on_alarm(_signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the system passes valid information; without a sender the field is 0.
    let from_timer = unsafe { (*info).si_pid() } == 0;
    put(&[if from_timer { b"\n--- WATCHDOG TIMER EXPIRED ---\n" } else { b"\nReceived SIGALRM\n" }]);
    put_running();
    put_stack();
}

fn put_running() {
    if !panic::note().is_empty() {
        put(&[b"Running: ", panic::note().as_bytes(), b"\n"]);
    }
}

fn put_stack() {
    put(&[b"------ STACK TRACE ------\n"]);
    let mut frames = [std::ptr::null_mut(); 64];
    let count = walk_stack(&mut frames);
    print_frames(&frames[..count]);
    put(&[b"------ STACK TRACE DONE ------\n"]);
}

#[cfg(target_env = "gnu")]
fn walk_stack(frames: &mut [*mut c_void]) -> usize {
    // SAFETY: writes at most the length that is named. Its one use of memory was at installation.
    let count = unsafe { libc::backtrace(frames.as_mut_ptr(), frames.len() as c_int) };
    usize::try_from(count).unwrap_or(0)
}

#[cfg(target_env = "gnu")]
fn print_frames(frames: &[*mut c_void]) {
    // SAFETY: addresses given by `backtrace`; it writes straight to the descriptor.
    unsafe { libc::backtrace_symbols_fd(frames.as_ptr(), frames.len() as c_int, report_fd()) };
}

#[cfg(not(target_env = "gnu"))]
fn walk_stack(_frames: &mut [*mut c_void]) -> usize {
    0
}

#[cfg(not(target_env = "gnu"))]
fn print_frames(_frames: &[*mut c_void]) {}

/// The log; standard error when there is none.
fn report_fd() -> c_int {
    if log::raw_fd() >= 0 { log::raw_fd() } else { libc::STDERR_FILENO }
}

fn put(parts: &[&[u8]]) {
    for part in parts {
        // SAFETY: reads `part` only; a failure cannot be reported anywhere.
        unsafe { libc::write(report_fd(), part.as_ptr().cast(), part.len()) };
    }
}

fn put_number(mut number: u64, base: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[(number % base) as usize];
        number /= base;
        if number == 0 {
            break;
        }
    }
    put(&[&digits[at..]]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fork::{ChildEnd, fork, wait};
    use std::io::Read;
    use std::os::fd::AsRawFd;

    /// Runs `action` in a child whose standard error is read.
    fn report_of(action: impl FnOnce()) -> (String, ChildEnd) {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let child = fork(|| {
            // SAFETY: both descriptors are open.
            unsafe { libc::dup2(writer.as_raw_fd(), report_fd()) };
            install_crash_handler().unwrap();
            panic::set_note("call: debug");
            action();
            0
        });
        drop(writer);
        let mut report = String::new();
        reader.read_to_string(&mut report).unwrap();
        (report, wait(child.unwrap()).unwrap())
    }

    #[test]
    fn a_bad_access_is_reported() {
        // SAFETY: none; that is the point. The child is meant to die of it.
        let (report, end) =
            report_of(|| unsafe { std::ptr::without_provenance_mut::<u8>(64).write_volatile(1) });
        assert_eq!(end, ChildEnd::Killed(libc::SIGSEGV));
        for part in ["BUG REPORT START", "crashed by signal: 11, si_code: 1", "Address: 0x40", "call: debug"]
        {
            assert!(report.contains(part), "{part} missing in {report}");
        }
        assert!(report.ends_with("=== AIKV BUG REPORT END ===\n"), "{report}");
        assert_eq!(report.matches("STACK TRACE -").count(), 1);
    }

    #[test]
    fn alarms_are_reported_and_survived() {
        let (report, end) = report_of(|| {
            signal_hook::low_level::raise(libc::SIGALRM).unwrap();
            set_watchdog(20);
            std::thread::sleep(std::time::Duration::from_millis(200));
        });
        assert_eq!(end, ChildEnd::Exited(0));
        assert!(report.contains("Received SIGALRM") && report.contains("WATCHDOG TIMER EXPIRED"), "{report}");
    }
}
