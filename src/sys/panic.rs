//! What happens when an invariant is broken: a report with place, message, what was running and the stack,
//! then the end of the process. Recovery is the next start's job; going on with broken state is not.

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::panic::PanicHookInfo;

use super::{fork, log};

thread_local! {
    static NOTE: Cell<&'static str> = const { Cell::new("") };
}

/// Says what this thread is doing ("call: get"); crash and panic reports show it. Costs one store.
#[inline]
pub fn set_note(note: &'static str) {
    NOTE.set(note);
}

/// What [`set_note`] said last in this thread.
pub fn note() -> &'static str {
    NOTE.get()
}

/// Lets every panic of the process, in whatever thread, be reported and end the process by SIGABRT. In a
/// forked child it ends the child.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        report(info);
        super::crash::abort_without_report();
    }));
}

fn report(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("(a panic without text)");
    let place = info.location().map(|place| format!("{}:{}", place.file(), place.line()));
    let place = place.as_deref().unwrap_or("an unknown place");
    log::emergency("=== AIKV BUG REPORT START ===");
    log::emergency(&format!("=== ASSERTION FAILED === {message} ({place})"));
    if !note().is_empty() {
        log::emergency(&format!("Running: {}", note()));
    }
    // The child must not take the locks that walking the stack needs.
    if !fork::in_child() {
        let thread = std::thread::current();
        log::emergency(&format!("Thread: {}", thread.name().unwrap_or("(no name)")));
        log::emergency("------ STACK TRACE ------");
        for line in Backtrace::force_capture().to_string().lines() {
            log::emergency(line);
        }
        log::emergency("------ STACK TRACE DONE ------");
    }
    log::emergency("=== AIKV BUG REPORT END ===");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_kept_per_thread() {
        set_note("call: get");
        let other = std::thread::spawn(|| note().to_owned()).join().unwrap();
        assert_eq!((note(), other.as_str()), ("call: get", ""));
        set_note("");
    }

    #[test]
    fn a_panic_ends_the_process_by_sigabrt() {
        let child = fork::fork(|| {
            install_panic_hook();
            panic!("planted");
        });
        assert_eq!(fork::wait(child.unwrap()).unwrap(), fork::ChildEnd::Killed(libc::SIGABRT));
    }
}
