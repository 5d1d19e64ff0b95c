//! Whole sessions with a user who has written down beforehand what he will say.

use super::*;
use crate::sys::lua::Role;
use crate::util::rng::Rng;
use std::io;

/// The user: what he sends, piece by piece, and what he was sent. Then he goes.
#[derive(Default)]
struct User {
    says: std::collections::VecDeque<Vec<u8>>,
    heard: Vec<u8>,
    /// Messages that he takes; the next one fails.
    patience: Option<usize>,
}

impl Read for User {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(bytes) = self.says.pop_front() else { return Ok(0) };
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

impl Write for User {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.patience {
            Some(0) => return Err(io::ErrorKind::TimedOut.into()),
            Some(left) => *left -= 1,
            None => {}
        }
        self.heard.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What became of a session.
struct Session {
    /// The lines of each answer.
    answers: Vec<Vec<String>>,
    /// The error that the script ended with.
    error: Option<String>,
    /// Commands that were run, the script's and the user's.
    commands: Vec<String>,
}

fn request(line: &str) -> Vec<u8> {
    let words: Vec<&str> = line.split(' ').collect();
    let args = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), args.collect::<String>()).into_bytes()
}

/// The lines of answers in the protocol, which is checked on the way.
fn answers(mut bytes: &[u8]) -> Vec<Vec<String>> {
    let mut line = || {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n").expect("whole lines");
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 2..];
        (line, bytes.is_empty())
    };
    let mut answers = Vec::new();
    loop {
        let (head, mut at_end) = line();
        let count: usize = head.strip_prefix('*').expect("an array").parse().expect("a number");
        let mut lines = Vec::new();
        for _ in 0..count {
            let (text, last) = line();
            lines.push(text.strip_prefix('+').expect("a status").to_owned());
            at_end = last;
        }
        answers.push(lines);
        if at_end {
            return answers;
        }
    }
}

/// Runs a script in a session. Every command is answered with `:7`, or refused if its name is `no`.
fn session_of(says: Vec<Vec<u8>>, script: &str) -> Session {
    let mut vm = Vm::new(Role::Scripts, 64 << 20, 7);
    let function = vm.compile(c"@user_script", script.as_bytes()).expect("the script compiles");
    let clock = Clock::fake(0);
    let mut user = User { says: says.into(), ..User::default() };
    let mut debugger = Debugger::new(script.as_bytes(), 5_000, clock.mono_ns());
    let (keys, args): ([&[u8]; 1], [&[u8]; 1]) = ([b"k"], [b"v"]);
    vm.begin(&function, keys.into_iter(), args.into_iter(), true);
    debugger.begin(&mut vm);
    let mut commands = Vec::new();
    let mut run = |debugger: &mut Debugger, vm: &mut Vm, args: &[&[u8]]| {
        commands.push(String::from_utf8_lossy(&args.join(&b' ')).into_owned());
        let is_shown = debugger.shows_calls();
        if is_shown {
            debugger.note_call(vm, args);
        }
        match args[0] {
            b"no" if is_shown => debugger.note_refusal(vm, b"NOPERM never"),
            _ if is_shown => debugger.note_reply(vm, b":7\r\n"),
            _ => {}
        }
    };
    let mut step = vm.start();
    while step != Step::Done {
        step = match step {
            Step::Line => {
                let mut next = debugger.stopped(&mut vm, &mut user, &clock);
                loop {
                    match next {
                        Next::Step(step) => break step,
                        Next::Command(words) => {
                            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                            run(&mut debugger, &mut vm, &words);
                            next = debugger.answered(&mut vm, &mut user, &clock);
                        }
                    }
                }
            }
            Step::Call => {
                let args: Vec<Vec<u8>> = vm
                    .args()
                    .map(|arg| match arg {
                        crate::sys::lua::Arg::Bytes(bytes) => bytes.to_vec(),
                        crate::sys::lua::Arg::Number(number) => number.to_string().into_bytes(),
                    })
                    .collect();
                run(&mut debugger, &mut vm, &args.iter().map(Vec::as_slice).collect::<Vec<_>>());
                vm.reply(b":7\r\n")
            }
            // Time passes only while code runs for long.
            Step::Interrupt => {
                clock.advance(1_000_000_000);
                debugger.interrupted(&mut vm, &clock)
            }
            other => panic!("{other:?}"),
        };
        if step == Step::Line && vm.stop().has_run {
            clock.advance(1_000_000_000);
        }
    }
    let error = match vm.returned() {
        crate::sys::lua::Returned::Raised(failure) => {
            Some(String::from_utf8_lossy(&failure.text).into_owned())
        }
        crate::sys::lua::Returned::Broken(text) => Some(String::from_utf8_lossy(&text).into_owned()),
        _ => None,
    };
    debugger.finish(&mut vm, &mut user);
    vm.end();
    Session { answers: answers(&user.heard), error, commands }
}

/// The last line of each answer, without that of the first stop.
fn last_lines(script: &str, says: &[&str]) -> Vec<String> {
    let session = session_of(says.iter().map(|line| request(line)).collect(), script);
    session.answers[1..].iter().map(|lines| lines.last().cloned().unwrap_or_default()).collect()
}

const SCRIPT: &str = "local a = {1, 2}
local function double(x)
  return x * 2
end
local b = double(21)
redis.call('set', KEYS[1], b)
redis.debug(a, b)
return b
";

#[test]
fn a_script_is_stepped_through() {
    let says = ["s", "s", "b 3", "c", "t", "p x", "p", "b 0", "STEP", "n", "s", "s", "c"];
    let session = session_of(says.iter().map(|line| request(line)).collect(), SCRIPT);
    let expected: [&[&str]; 14] = [
        &["* Stopped at 1, stop reason = step over", "-> 1   local a = {1, 2}"],
        &["* Stopped at 4, stop reason = step over", "-> 4   end"],
        &["* Stopped at 5, stop reason = step over", "-> 5   local b = double(21)"],
        &["   2   local function double(x)", "  #3     return x * 2", "   4   end"],
        &["* Stopped at 3, stop reason = break point", "->#3     return x * 2"],
        &["In double:", "->#3     return x * 2", "From top level:", "   5   local b = double(21)"],
        &["<value> 21"],
        &["<value> x = 21"],
        &["All breakpoints removed."],
        &["* Stopped at 6, stop reason = step over", "-> 6   redis.call('set', KEYS[1], b)"],
        &[
            "<redis> set k 42",
            "<reply> 7",
            "* Stopped at 7, stop reason = step over",
            "-> 7   redis.debug(a, b)",
        ],
        &["<debug> line 7: {1; 2}, 42", "* Stopped at 8, stop reason = step over", "-> 8   return b"],
        &["<endsession>"],
        &[],
    ];
    for (got, expected) in session.answers.iter().zip(expected) {
        assert_eq!(got, expected);
    }
    assert_eq!((session.error, session.commands), (None, vec!["set k 42".to_owned()]));
}

#[test]
fn values_are_shown() {
    let script = "local t = {n = 1.5, [2] = {true, 'x\\n'}}\nlocal u = {} u[1] = u\nlocal n = 1/0\nreturn 1";
    let says = ["b 4", "c", "p n", "p u", "p t", "p KEYS", "p ARGV", "p nope", "e KEYS[1]", "e 1, 2", "a"];
    let lines = last_lines(script, &says);
    assert_eq!(lines[2], "<value> inf");
    assert_eq!(lines[3], "<value> {{{{{{{{{{<max recursion level reached! Nested table?>}}}}}}}}}}");
    assert!(lines[4].contains("[2]={true; \"x\\n\"}") && lines[4].contains("[\"n\"]=1.5"), "{}", lines[4]);
    assert_eq!(lines[5..9], ["<value> {\"k\"}", "<value> {\"v\"}", "No such variable.", "<retval> \"k\""]);
    assert_eq!(lines[9], "<retval> 1");
}

#[test]
fn long_values_are_cut() {
    let says = ["b 2", "c", "p s", "p s", "maxlen", "m 10", "p s", "m 0", "p s", "c"];
    let script = "local s = string.rep('x', 1000)\nreturn 1";
    let session = session_of(says.iter().map(|line| request(line)).collect(), script);
    let answers = &session.answers[3..];
    assert_eq!((answers[0].len(), answers[0][0].len()), (2, 260));
    assert_eq!(answers[1], answers[0][..1]);
    assert_eq!(answers[2], ["<value> replies are truncated at 256 bytes."]);
    assert_eq!(answers[3], ["<value> replies are truncated at 60 bytes."]);
    assert_eq!(answers[4][0].len(), 64);
    assert_eq!(answers[5], ["<value> replies are unlimited."]);
    assert_eq!(answers[6][0].len(), 1010);
}

#[test]
fn breakpoints_come_and_go() {
    let says = ["b", "b 2 9 x 2", "b", "b -2 -2 0", "b 1", "l 2 0", "l", "w", "a"];
    let session = session_of(says.iter().map(|line| request(line)).collect(), "local a = 1\nreturn a\n\n");
    let (one, two) = ("-> 1   local a = 1", "   2   return a");
    let expected: [&[&str]; 8] = [
        &["No breakpoints set. Use 'b <line>' to add one."],
        &[one, "  #2   return a", "Wrong line number.", "Invalid argument:'x'", "Wrong line number."],
        &["1 breakpoints set:", "  #2   return a"],
        &["Breakpoint removed.", "No breakpoint in the specified line.", "All breakpoints removed."],
        &["->#1   local a = 1", two],
        &[two],
        &["->#1   local a = 1", two],
        &["->#1   local a = 1", two],
    ];
    for (got, expected) in session.answers[1..].iter().zip(expected) {
        assert_eq!(got, expected);
    }
    let many = "\n".repeat(200);
    let script = format!("local x = 1{many}return x");
    let says: Vec<String> = (1..=BREAKPOINTS_MAX + 1).map(|line| format!("b {line}")).collect();
    let lines = last_lines(&script, &says.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(lines[BREAKPOINTS_MAX], "Too many breakpoints set.");
}

#[test]
fn commands_of_the_user_are_run_and_shown() {
    let says = ["r get k", "redis no", "r", "r echo 1 2 3 4 5 6 7 8 9 10 11", "e redis.call('ping')", "c"];
    let session = session_of(says.iter().map(|line| request(line)).collect(), "return 1");
    let expected: [&[&str]; 5] = [
        &["<redis> get k", "<reply> 7"],
        &["<redis> no", "<error> -NOPERM never"],
        &["<error> Unknown Redis Lua debugger command or wrong number of arguments."],
        &["<redis> echo 1 2 3 4 5 6 7 8 9 ... (1 more)", "<reply> 7"],
        &["<retval> 7"],
    ];
    for (got, expected) in session.answers[1..].iter().zip(expected) {
        assert_eq!(got, expected);
    }
    assert_eq!(session.commands[..2], ["get k", "no"]);
}

#[test]
fn evaluated_code_is_kept_in_its_place() {
    let says = [
        "e x=1",
        "e error()",
        "e (",
        "e \x1bLua",
        "e while true do end",
        "e while true do pcall(function() while true do end end) end",
        "e local function f() return pcall(f) end return f()",
        "e string.rep('x', 1e9)",
        "e for i = 1, 2e4 do redis.debug(i, string.rep('x', 1000)) end",
        "e coroutine.yield(1)",
        "e 1 + 1",
        "c",
    ];
    let session = session_of(says.iter().map(|line| request(line)).collect(), "return 1");
    let lines = |i: usize| session.answers[i + 1].last().expect("an answer").as_str();
    assert!(session.answers[1..7].iter().all(|answer| answer.len() == 1), "{:?}", &session.answers[1..7]);
    assert_eq!(lines(0), "<error> ldb_eval:1: Attempt to modify a readonly table");
    assert_eq!(lines(1), "<error> nil");
    assert!(lines(2).starts_with("<error> ldb_eval:1:") && lines(3).starts_with("<error> ldb_eval:1:"));
    assert_eq!(lines(4), "<error> ERR evaluated for too long");
    assert_eq!(lines(5), "<error> ERR evaluated for too long");
    assert!(lines(6).starts_with("<retval> "));
    assert_eq!(lines(7), "<error> not enough memory");
    assert_eq!(lines(8), "<hint> Lines were left out here: there were too many.");
    assert!(lines(9).starts_with("<error> attempt to yield"), "{}", lines(9));
    assert_eq!((lines(10), session.error), ("<retval> 2", None));
}

#[test]
fn an_aborted_script_ends_whatever_it_catches() {
    let script = "while true do\npcall(function()\nlocal x = 1\nend)\nend";
    let session = session_of(vec![request("s"), request("s"), request("abort")], script);
    assert_eq!(session.error.as_deref(), Some("ERR script aborted for user request"));
    assert_eq!(session.answers.last().unwrap(), &["<endsession>"]);
}

#[test]
fn a_script_without_end_is_stopped_and_one_without_user_ended() {
    let script = "local i = 0\nwhile true do i = i + 1 end";
    let session = session_of(vec![request("c"), request("p i")], script);
    assert_eq!(session.answers[1][0], "* Stopped at 2, stop reason = timeout reached, infinite loop?");
    assert_eq!(session.error.as_deref(), Some(&*format!("ERR {CLIENT_GONE}")));
    let session = session_of(Vec::new(), "redis.breakpoint()\nreturn redis.call('set', 'a', 1)");
    assert_eq!((session.error, session.commands), (None, vec!["set a 1".to_owned()]));
}

#[test]
fn breakpoints_in_the_code_count_like_others() {
    let lines = last_lines("redis.breakpoint()\nlocal a = 1\nreturn redis.breakpoint()", &["c", "c"]);
    assert_eq!(lines, ["-> 2   local a = 1", "<endsession>"]);
    let mut vm = Vm::new(Role::Scripts, 0, 7);
    let function = vm.compile(c"@user_script", b"redis.debug('x') return redis.breakpoint()").unwrap();
    vm.begin(&function, [].into_iter(), [].into_iter(), false);
    assert_eq!(vm.start(), Step::Done);
    assert!(vm.notes().take().is_empty());
}

#[test]
fn values_that_contain_themselves_end() {
    let says = ["b 2", "c", "p t", "m 0", "p t", "p", "c"];
    let script = "local t = {} for i = 1, 300 do t[{}] = t t[i] = t end t[t] = t\nreturn 1";
    let session = session_of(says.iter().map(|line| request(line)).collect(), script);
    assert!(session.answers[5][0].len() <= NOTES_BYTES_MAX);
    assert_eq!(session.error, None);
}

#[test]
fn coroutines_and_deep_calls_are_looked_into() {
    let script = "local co = coroutine.wrap(function(a)\nlocal x = a\nreturn x\nend)\nreturn co(5)";
    assert_eq!(last_lines(script, &["b 3", "c", "p x", "t", "c"])[2..4], ["<value> 5", "->#3   return x"]);
    let script = "local function f(n)\nif n == 0 then redis.breakpoint() end\nif n == 0 then return 0 end\n\
                  return 1 + f(n - 1)\nend\nreturn f(15000)";
    let session =
        session_of(["c", "t", "p n", "p co", "c"].iter().map(|line| request(line)).collect(), script);
    assert_eq!(session.answers[2].len(), 2 * 15_001);
    assert_eq!(session.answers[3], ["<value> 0"]);
}

#[test]
fn input_that_is_no_command_ends_the_script() {
    for (input, error) in [
        (b"GET\r\n".to_vec(), PROTOCOL_ERROR),
        (b"*1\r\n$2000\r\n".to_vec(), PROTOCOL_ERROR),
        (vec![0; 100], PROTOCOL_ERROR),
    ] {
        let session = session_of(vec![input], "pcall(function() local x = 1 end) return 1");
        assert_eq!(session.error, Some(format!("ERR {error}")));
    }
    let endless = std::iter::once(b"*1000\r\n".to_vec())
        .chain((0..2_000).map(|_| [b"$1000\r\n".as_slice(), &[b'x'; 1000], b"\r\n"].concat()));
    // A thousand such arguments are a command that nobody knows, and what follows is none.
    assert_eq!(session_of(endless.collect(), "return 1").error, Some(format!("ERR {PROTOCOL_ERROR}")));
}

#[test]
fn any_talk_comes_to_an_end() {
    let seed = 0x1db;
    let mut rng = Rng::from_seed(seed);
    let words = [
        "s",
        "n",
        "c",
        "l",
        "w",
        "p",
        "b",
        "t",
        "e",
        "r",
        "m",
        "h",
        "x",
        "0",
        "1",
        "-1",
        "3",
        "99",
        "a\0b",
        "nope",
        "KEYS",
        "1+1",
        "redis.debug(KEYS)",
        "redis.breakpoint()",
        "9223372036854775807",
    ];
    for round in 0..200 {
        let mut says = Vec::new();
        for _ in 0..rng.below(30) {
            let line: Vec<&str> =
                (0..1 + rng.below(4)).map(|_| words[rng.below(words.len() as u64) as usize]).collect();
            let bytes = request(&line.join(" "));
            let at = rng.below(bytes.len() as u64 + 1) as usize;
            says.extend(
                [bytes[..at].to_vec(), bytes[at..].to_vec()].into_iter().filter(|part| !part.is_empty()),
            );
        }
        let session = session_of(says, SCRIPT);
        assert_eq!(session.error, None, "seed {seed}, round {round}");
        assert_eq!(session.answers.last().unwrap().last().unwrap(), "<endsession>");
    }
}

#[test]
fn who_takes_nothing_has_gone_whatever_he_has_sent_before() {
    let script = b"local n = 0\nwhile n < 3 do n = n + 1 end\nreturn n";
    let mut vm = Vm::new(Role::Scripts, 64 << 20, 7);
    let function = vm.compile(c"@user_script", script).expect("the script compiles");
    let clock = Clock::fake(0);
    let says = vec![[request("w"), request("w"), request("w")].concat()].into();
    let mut user = User { says, patience: Some(2), ..User::default() };
    let mut debugger = Debugger::new(script, 5_000, clock.mono_ns());
    vm.begin(&function, [].into_iter(), [].into_iter(), true);
    debugger.begin(&mut vm);
    let mut step = vm.start();
    while step != Step::Done {
        let Next::Step(next) = debugger.stopped(&mut vm, &mut user, &clock) else { panic!("no command") };
        step = next;
    }
    debugger.finish(&mut vm, &mut user);
    assert!(debugger.user_has_gone());
    // Where it stopped, and one answer: the second one was tried, and then nothing more.
    assert_eq!(answers(&user.heard).len(), 2);
}
