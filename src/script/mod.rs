//! Scripts and functions as the server keeps them: the cache of EVAL, the libraries of FUNCTION, and what is
//! known of the one that runs. Lua itself is in `sys/lua`; how a script's commands run is the server's part
//! (`server/script.rs`). Knows no server and no client.

pub mod cache;
pub mod debugger;
pub mod flags;
pub mod functions;

use crate::sys::lua::{Returned, Step, Vm};
use cache::{Cache, ScriptId};
use flags::ScriptFlags;
use functions::Functions;

pub use crate::sys::lua::{Arg, Failure, Out, Returned as Ended, Step as ScriptStep, Vm as Machine};

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A script of the cache.
    Script(ScriptId),
    /// A function, by its name.
    Function(Vec<u8>),
}

/// The running script or function.
#[derive(Debug)]
pub struct Run {
    /// What runs.
    pub what: What,
    /// Whether commands that write are refused.
    pub read_only: bool,
    /// Whether commands that need memory run although there is none.
    pub allow_oom: bool,
    /// Whether it has run a command that writes: it cannot be stopped any more.
    pub wrote: bool,
    /// Monotonic nanoseconds at which it began.
    pub since_ns: u64,
    /// Whether other clients are told that it runs.
    pub busy: bool,
    /// Why it has to end, if it has.
    pub kill: Option<&'static str>,
}

/// All scripts and functions.
pub struct Scripts {
    /// Scripts of EVAL and SCRIPT LOAD.
    pub cache: Cache,
    /// Libraries of FUNCTION LOAD.
    pub functions: Functions,
    /// What runs, from its start to its end.
    pub run: Option<Run>,
}

impl Scripts {
    /// Nothing yet. Scripts may hold `limit` bytes (0: any number); `seed` is that of their random numbers.
    pub fn new(limit: usize, seed: u64) -> Scripts {
        Scripts { cache: Cache::new(limit, seed), functions: Functions::new(limit, seed), run: None }
    }

    /// Changes the bytes that scripts may hold; 0: any number.
    pub fn set_limit(&mut self, bytes: usize) {
        self.cache.set_limit(bytes);
        self.functions.set_limit(bytes);
    }

    /// Whether a script runs or waits to go on.
    pub fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// Whether other clients are told that a script runs.
    pub fn is_busy(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.busy)
    }

    /// Notes what begins to run.
    pub fn begin(&mut self, what: What, flags: ScriptFlags, read_only: bool, since_ns: u64) {
        assert!(self.run.is_none(), "one script runs at a time");
        let declared = !flags.has(ScriptFlags::UNDECLARED);
        self.run = Some(Run {
            what,
            read_only: read_only || (declared && flags.has(ScriptFlags::NO_WRITES)),
            allow_oom: declared && flags.has(ScriptFlags::ALLOW_OOM),
            wrote: false,
            since_ns,
            busy: false,
            kill: None,
        });
    }

    /// The machine of what runs.
    pub fn vm(&mut self) -> &mut Vm {
        match self.run.as_ref().map(|run| &run.what) {
            Some(What::Function(_)) => &mut self.functions.vm,
            _ => &mut self.cache.vm,
        }
    }

    /// The name of what runs, as errors show it: the digest of a script, the name of a function.
    pub fn running_name(&self) -> Vec<u8> {
        match self.run.as_ref().map(|run| &run.what) {
            Some(What::Script(id)) => self.cache.get(*id).sha.to_vec(),
            Some(What::Function(name)) => name.clone(),
            None => Vec::new(),
        }
    }

    /// Ends the run: what it came to, as an error reply if it is one. The value, if there is one, is written
    /// to `out`.
    pub fn end(&mut self, out: &mut dyn Out) -> Option<Failure> {
        let name = self.running_name();
        let vm = self.vm();
        let failure = match vm.returned() {
            Returned::Value => {
                vm.write_result(out);
                None
            }
            Returned::Error(failure) => Some(failure),
            Returned::Raised(mut failure) => {
                if let Some((source, line)) = failure.place.take() {
                    failure.text.extend_from_slice(
                        &[b" script: ", name.as_slice(), b", on ", &source, b":", &line, b"."].concat(),
                    );
                }
                Some(failure)
            }
            Returned::Broken(why) => {
                let why = &why[..why.len().min(100)];
                let text = [b"ERR Error running script ", name.as_slice(), b", ", why].concat();
                Some(Failure { text, ..Failure::default() })
            }
        };
        vm.end();
        self.run = None;
        failure
    }
}

/// Runs a machine that calls no command: the code of a library. `is_over` tells when it has run too long.
fn run_alone(vm: &mut Vm, too_long: &'static str, mut is_over: impl FnMut() -> bool) {
    let mut step = vm.start();
    while step != Step::Done {
        step = match step {
            Step::Call => vm.reply(b"-ERR commands cannot be called here\r\n"),
            Step::MayRun => vm.answer(None),
            _ if is_over() => vm.kill(too_long),
            _ => vm.proceed(),
        };
    }
}
