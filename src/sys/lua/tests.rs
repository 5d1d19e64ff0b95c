//! The machine and its sandbox against scripts that mean well, and scripts that do not.

use super::*;
use crate::util::rng::Rng;

/// Prints what a script returned, on one line.
#[derive(Default)]
struct Text(String);

impl Text {
    fn add(&mut self, text: impl std::fmt::Display) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        self.0.push_str(&text.to_string());
    }
}

impl Out for Text {
    fn null(&mut self) {
        self.add("nil");
    }
    fn bool(&mut self, value: bool) {
        self.add(value);
    }
    fn int(&mut self, value: i64) {
        self.add(value);
    }
    fn bulk(&mut self, value: &[u8]) {
        self.add(format_args!("'{}'", value.escape_ascii()));
    }
    fn status(&mut self, text: &[u8]) {
        self.add(format_args!("+{}", text.escape_ascii()));
    }
    fn error(&mut self, failure: &Failure) {
        self.add(format_args!("-{}", failure.text.escape_ascii()));
    }
    fn double(&mut self, value: f64) {
        self.add(format_args!(",{value}"));
    }
    fn big_number(&mut self, digits: &[u8]) {
        self.add(format_args!("({}", digits.escape_ascii()));
    }
    fn verbatim(&mut self, format: [u8; 3], text: &[u8]) {
        self.add(format_args!("={}:{}", format.escape_ascii(), text.escape_ascii()));
    }
    fn array(&mut self, len: usize) {
        self.add(format_args!("*{len}"));
    }
    fn map(&mut self, len: usize) {
        self.add(format_args!("%{len}"));
    }
    fn set(&mut self, len: usize) {
        self.add(format_args!("~{len}"));
    }
}

/// A machine whose commands are answered with `reply`; interrupts let it go on `patience` times.
struct World {
    vm: Vm,
    reply: &'static [u8],
    patience: usize,
    calls: Vec<String>,
}

impl World {
    fn new() -> World {
        let vm = Vm::new(Role::Scripts, 64 << 20, 1);
        World { vm, reply: b"+OK\r\n", patience: 1000, calls: Vec::new() }
    }

    fn run(&mut self, code: &str) -> String {
        self.run_with(code, &[], &[])
    }

    fn run_with(&mut self, code: &str, keys: &[&[u8]], args: &[&[u8]]) -> String {
        let function = match self.vm.compile(c"@user_script", code.as_bytes()) {
            Ok(function) => function,
            Err(text) => return format!("compile: {}", String::from_utf8_lossy(&text)),
        };
        self.vm.begin(&function, keys.iter().copied(), args.iter().copied(), true);
        let mut step = self.vm.start();
        loop {
            step = match step {
                Step::Call => {
                    let args: Vec<String> = self.vm.args().map(|a| format!("{a:?}")).collect();
                    self.calls.push(args.join(" "));
                    self.vm.reply(self.reply)
                }
                Step::MayRun => self.vm.answer(Some(true)),
                Step::Interrupt if self.patience == 0 => self.vm.kill("Script killed"),
                Step::Interrupt => {
                    self.patience -= 1;
                    self.vm.proceed()
                }
                Step::Line => unreachable!("nothing is debugged"),
                Step::Done => break,
            };
        }
        let shown = self.result();
        self.vm.end();
        self.vm.forget(function);
        shown
    }

    fn result(&mut self) -> String {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        match self.vm.returned() {
            Returned::Value => {
                let mut out = Text::default();
                self.vm.write_result(&mut out);
                out.0
            }
            Returned::Error(failure) => format!("-{}", text(failure.text)),
            Returned::Raised(failure) => {
                let place = failure.place.map(|(source, line)| format!(" @{}:{}", text(source), text(line)));
                format!("raised {}{}", text(failure.text), place.unwrap_or_default())
            }
            Returned::Broken(why) => format!("broken {}", text(why)),
        }
    }
}

/// Runs rows of (code, result) in one state.
fn check(rows: &[(&str, &str)]) {
    let mut world = World::new();
    for (code, wanted) in rows {
        assert_eq!(world.run(code), *wanted, "{code}");
    }
}

/// Runs rows of (code, part of the result) in one state.
fn check_parts(rows: &[(&str, &str)]) {
    let mut world = World::new();
    for (code, part) in rows {
        let result = world.run(code);
        assert!(result.contains(part), "{code}\n gives {result}\n and not {part}");
    }
}

#[test]
fn values_become_replies() {
    check(&[
        ("return 'hello'", "'hello'"),
        ("return 100.9", "100"),
        ("return -100.9", "-100"),
        ("return 1e300", "-9223372036854775808"),
        ("return true", "1"),
        ("return false", "nil"),
        ("return nil", "nil"),
        ("", "nil"),
        ("redis.setresp(3) return {true, false}", "*2 true false"),
        ("return {1,2,{3,'x'},4,nil,5}", "*4 1 2 *2 3 'x' 4"),
        ("return {ok='fine'}", "+fine"),
        ("return {err='BAD luck'}", "-BAD luck"),
        ("return {1, {err='BAD luck'}}", "*2 1 -BAD luck"),
        ("return {double=3.25}", ",3.25"),
        ("return {big_number='123'}", "(123"),
        ("return {verbatim_string={format='txt', string='abc'}}", "=txt:abc"),
        ("return {verbatim_string={format='txt'}}", "*0"),
        ("return {map={a={1,2}}}", "%1 'a' *2 1 2"),
        ("return {map={[1]={map={x='y'}}}}", "%1 1 %1 'x' 'y'"),
        ("return {set={a=true}}", "~1 'a'"),
        ("return {{set={a=true}}, 7}", "*2 ~1 'a' 7"),
        ("return function() end", "nil"),
        ("return _G", "*0"),
        ("return redis", "*0"),
        ("local a = setmetatable({}, {__index=function() foo() end}) return a", "*0"),
    ]);
}

#[test]
fn keys_and_arguments_are_globals() {
    let mut world = World::new();
    let shown = world.run_with("return {KEYS[1], KEYS[2], ARGV[1], #ARGV}", &[b"a", b"b"], &[b"c"]);
    assert_eq!(shown, "*4 'a' 'b' 'c' 1");
    assert_eq!(world.run("return {#KEYS, #ARGV}"), "*2 0 0");
}

#[test]
fn calls_get_replies() {
    let mut world = World::new();
    assert_eq!(world.run("return redis.call('set', 'k', 5, 1.5)"), "+OK");
    let wanted = r#"Bytes([115, 101, 116]) Bytes([107]) Number(5.0) Number(1.5)"#;
    assert_eq!(world.calls, [wanted]);
    let rows: &[(&'static [u8], &str)] = &[
        (b":7\r\n", "*2 'number' 7"),
        (b"$-1\r\n", "*2 'boolean' nil"),
        (b"$5\r\na\r\nbc\r\n", r"*2 'string' 'a\r\nbc'"),
        (b"*2\r\n:1\r\n*1\r\n$1\r\nx\r\n", "*2 'table' *2 1 *1 'x'"),
        (b"*-1\r\n", "*2 'boolean' nil"),
        (b"_\r\n", "*1 'nil'"),
        (b"#t\r\n", "*2 'boolean' 1"),
        (b",3.5\r\n", "*2 'table' ,3.5"),
        (b"(123\r\n", "*2 'table' (123"),
        (b"=7\r\ntxt:abc\r\n", "*2 'table' =txt:abc"),
        (b"%1\r\n+a\r\n:1\r\n", "*2 'table' %1 +a 1"),
        (b"~1\r\n$1\r\nm\r\n", "*2 'table' ~1 'm'"),
        (b"|1\r\n+a\r\n:1\r\n+b\r\n", "*2 'table' +b"),
        (b"-WRONG type\r\n", "*2 'table' -WRONG type"),
    ];
    for (reply, wanted) in rows {
        world.reply = reply;
        assert_eq!(world.run("local r = redis.pcall('x') return {type(r), r}"), *wanted);
    }
    world.reply = b"-WRONG type\r\n";
    assert_eq!(world.run("\nredis.call('x')"), "raised WRONG type @@user_script:2");
    assert_eq!(world.run("return redis.pcall('x')"), "-WRONG type");
    assert_eq!(world.run("return {pcall(redis.call, 'x')}"), "*2 nil 'WRONG type'");
    assert_eq!(
        world.run("return coroutine.wrap(function() return redis.pcall('x').err end)()"),
        "'WRONG type'"
    );
}

#[test]
fn errors_say_where() {
    check(&[
        (
            "return foo",
            "raised ERR user_script:1: Script attempted to access nonexistent global variable \
                        'foo' @@user_script:1",
        ),
        ("\n\na = 10", "raised ERR user_script:3: Attempt to modify a readonly table @@user_script:3"),
        ("error('x')", "raised ERR user_script:1: x @@user_script:1"),
        ("error({err='MY error'})", "raised MY error @@user_script:1"),
        ("error({})", "raised ERR unknown error @@user_script:1"),
        ("error()", "raised ERR nil @@user_script:1"),
        (
            "redis.call()",
            "raised ERR Please specify at least one argument for this redis lib call \
                          @@user_script:1",
        ),
        (
            "redis.call('x', {})",
            "raised ERR Lua redis lib command arguments must be strings or integers \
                                 @@user_script:1",
        ),
        ("redis.sha1hex()", "raised ERR wrong number of arguments @@user_script:1"),
        ("return redis.sha1hex('')", "'da39a3ee5e6b4b0d3255bfef95601890afd80709'"),
        ("return redis.error_reply('MY code')", "-MY code"),
        ("return redis.error_reply('-MY code')", "-MY code"),
        ("return redis.error_reply('word')", "-ERR word"),
        ("return redis.error_reply('')", "-ERR "),
        ("return redis.error_reply(1)", "-ERR wrong number or type of arguments"),
        ("return redis.status_reply('fine')", "+fine"),
        ("redis.setresp(4)", "raised ERR RESP version must be 2 or 3. @@user_script:1"),
        (
            "redis.set_repl(12)",
            "raised ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL \
                                or REPL_NONE. @@user_script:1",
        ),
        ("return redis.acl_check_cmd('set', 'x')", "1"),
        ("return {pcall(function() error({err='E x'}) end)}", "*2 nil 'E x'"),
        ("return {pcall(function() return 1, 2 end)}", "*3 1 1 2"),
        ("os.exit()", "raised ERR user_script:1: attempt to call field 'exit' (a nil value) @@user_script:1"),
        ("return {xpcall(function() error('e', 0) end, function(e) return e .. '!' end)}", "*2 nil 'e!'"),
        ("return {xpcall(function() return 1, 2 end, error)}", "*3 1 1 2"),
        ("x = = 1", "compile: user_script:1: unexpected symbol near '='"),
    ]);
}

#[test]
fn nothing_shared_can_be_changed() {
    let readonly = "Attempt to modify a readonly table";
    let attempts = [
        "setmetatable(_G, {})",
        "getmetatable(_G).__index = {}",
        "redis = 1",
        "_G = {}",
        "_G.x = 1",
        "redis.call = 1",
        "cjson.encode = 1",
        "rawset(_G, 'x', 1)",
        "rawset(redis, 'call', 1)",
        "rawset(getmetatable(redis), '__index', {})",
        "table.insert(_G, 1)",
        "table.insert(redis, 1, 2)",
        "table.sort(_G)",
        "table.remove(_G)",
        "getmetatable('').__index = {}",
        "setmetatable(getmetatable(''), {})",
        "getmetatable(getmetatable(_G)) ; getmetatable(_G).x = 1",
        "getfenv(1).x = 1",
        "getfenv(redis.call).x = 1",
        "getfenv(0).redis = 1",
        "for k, v in pairs(redis) do rawset(redis, k, 1) end",
        "local f, t = pairs(redis) rawset(t, 'call', 1)",
        "KEYS = {}",
        "string.rep = 1",
        "local s = 'x' getmetatable(s).__index.rep = 1",
        "coroutine.wrap(function() x = 1 end)()",
        "setfenv(0, {})",
    ];
    let mut world = World::new();
    for code in attempts {
        let result = world.run(code);
        let refused = result.contains(readonly) || result.contains("cannot change environment");
        assert!(refused || result.contains("a boolean value"), "{code} gives {result}");
    }
    assert_eq!(world.run("return redis.call('x')"), "+OK");
    assert_eq!(world.run("return {rawget(_G, 'x'), (next({})), ('a'):rep(2), #'ab'}"), "*0");
    assert_eq!(world.run("return {type(rawget(redis, 'call')), ('a'):rep(2)}"), "*2 'function' 'aa'");
    // A script's environment is its own, and only for that run.
    assert_eq!(world.run("setfenv(1, {}) x = 1 return x"), "1");
}

#[test]
fn an_environment_lasts_one_run() {
    let mut vm = Vm::new(Role::Scripts, 0, 1);
    let code = b"local env = getfenv(1) if env == _G then setfenv(1, {_G=1}) return 1 end return 2";
    let function = vm.compile(c"@user_script", code).unwrap();
    for _ in 0..2 {
        vm.begin(&function, [].into_iter(), [].into_iter(), true);
        assert_eq!(vm.start(), Step::Done);
        let mut out = Text::default();
        vm.write_result(&mut out);
        assert_eq!(out.0, "1");
        vm.end();
    }
}

#[test]
fn dangerous_names_are_not_there() {
    let names = ["loadfile", "dofile", "print", "newproxy", "require", "module", "io", "package", "debug"];
    let mut world = World::new();
    for name in names {
        let result = world.run(&format!("return {name}"));
        assert!(result.contains("nonexistent global variable"), "{name}: {result}");
    }
    check(&[
        ("local n = {} for k in pairs(os) do n[#n + 1] = k end return n", "*1 'clock'"),
        ("return {load(function() return nil end) ~= nil, loadstring('return 7')()}", "*2 1 7"),
        ("local done return load(function() if done then return end done = 1 return 'return 5' end)()", "5"),
        // The chunk's name must not be collected while the parser runs.
        ("return type(load(function() collectgarbage() return nil end, ('n'):rep(100)))", "'function'"),
    ]);
    check_parts(&[
        ("return loadstring(string.dump(function() return 1 end))()", "attempt to call a nil value"),
        ("return {select(2, loadstring(string.dump(function() end)))}", "not accepted"),
        (
            "local s = string.dump(function() end) \
          return {select(2, load(function() local t = s s = nil return t end))}",
            "not accepted",
        ),
    ]);
}

#[test]
fn runaway_scripts_end() {
    let mut world = World::new();
    world.patience = 3;
    let codes = [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local f = function() while 1 do redis.call('ping') end end while 1 do pcall(f) end",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
        "while true do coroutine.wrap(function() while true do end end)() end",
        "while true do pcall(coroutine.wrap(function() while true do end end)) end",
        "while true do table.sort({1,2,3}, function() while true do end end) end",
        "string.gsub('x', 'x', function() while true do end end)",
    ];
    for code in codes {
        let result = world.run(code);
        assert!(result.contains("Script killed") || result.starts_with("broken"), "{code}: {result}");
        world.patience = 1;
    }
    assert_eq!(world.run("return 1"), "1");
}

#[test]
fn memory_and_depth_are_bounded() {
    let mut world = World::new();
    let codes = [
        "local s = 'x' while true do s = s .. s end",
        "return ('x'):rep(1e9)",
        "local t = {} while true do t[#t + 1] = {} end",
        "local s = ('x'):rep(1e7) return cjson.encode({s, s, s, s, s, s, s, s, s, s})",
        "local s = ('x'):rep(1e7) return cmsgpack.pack(s, s, s, s, s, s, s, s, s, s)",
        "local function f() return f() + 1 end return f()",
        "local function f() return coroutine.wrap(f)() end return f()",
        "local function f() return pcall(f) end while true do f() error('deep') end",
        "return unpack({}, 1, 1e8)",
        "return unpack({}, -2147483648, 2147483647)",
        "return ('x'):find(('a?'):rep(300000))",
        "return ('x'):gsub(('(a'):rep(300000), '')",
        "local t = {} for i = 1, 4000 do t = {t} end return cjson.encode(t)",
        "return cjson.decode(('['):rep(100000))",
        "return cmsgpack.unpack(('\\145'):rep(100000))",
        "return loadstring('return ' .. ('('):rep(100000) .. '1' .. (')'):rep(100000))()",
        "local t = setmetatable({}, {__index=function(t, k) return t[k + 1] end}) return t[1]",
    ];
    for code in codes {
        world.patience = 1000;
        let result = world.run(code);
        assert!(result.starts_with("raised") || result.starts_with("broken"), "{code}: {}", result.len());
        assert_eq!(world.run("return 1"), "1", "after {code}");
    }
    assert!(world.vm.used_bytes() < 64 << 20);
    let deep = world.run("local a = {} local b = {a} a[1] = b return a");
    assert!(deep.ends_with("*1 -ERR reached lua stack limit"));
}

#[test]
fn json_both_ways() {
    check(&[
        (
            "return cjson.encode({1, 'a\\n\"/', true, cjson.null, 1.5, {}})",
            r#"'[1,\"a\\n\\\"\\/\",true,null,1.5,{}]'"#,
        ),
        ("return cjson.encode({a=1})", "'{\\\"a\\\":1}'"),
        ("return cjson.encode('\\0\\127')", "'\\\"\\\\u0000\\\\u007f\\\"'"),
        ("return cjson.encode(12345678901234567890)", "'1.2345678901235e+19'"),
        (
            "local t = cjson.decode('{\"a\":[1,2.5,\"x\\\\u0041\\\\ud83d\\\\ude00\",null,true]}') \
          return {t.a[1], tostring(t.a[2]), t.a[3], t.a[4] == cjson.null, t.a[5]}",
            r"*5 1 '2.5' 'xA\xf0\x9f\x98\x80' 1 1",
        ),
        (
            "return table.concat(cjson.decode('[0.0, -5e3, -1, 0.3e-3, 1023.2, 0e10]'), ' ')",
            "'0 -5000 -1 0.0003 1023.2 0'",
        ),
        ("return {cjson.encode_max_depth(5), cjson.encode_sparse_array(true)}", "*4 5 1 2 10"),
        ("return {cjson.encode_max_depth(), cjson.encode_invalid_numbers('null')}", "*2 1000 'null'"),
        ("cjson.encode_sparse_array(true) return cjson.encode({[1000]=1})", "'{\\\"1000\\\":1}'"),
        (
            "local c = cjson.new() c.encode_max_depth(1) \
             return {c.encode_max_depth(), cjson.encode_max_depth()}",
            "*2 1 1000",
        ),
    ]);
    check_parts(&[
        ("return cjson.encode({[1000]=1})", "Cannot serialise table: excessively sparse array"),
        ("return cjson.encode({num=0/0})", "must not be NaN or Inf"),
        ("return cjson.encode({[false]=1})", "table key must be a number or string"),
        ("return cjson.encode(function() end)", "Cannot serialise function: type not supported"),
        ("return cjson.decode('[1,]')", "Expected value but found T_ARR_END at character 4"),
        ("return cjson.decode('{\"a\":1,}')", "Expected object key string but found T_OBJ_END"),
        ("return cjson.decode('[1')", "Expected comma or array end but found T_END at character 3"),
        ("return cjson.decode('\"abc')", "unexpected end of string"),
        ("return cjson.decode('\"\\\\x\"')", "invalid escape code"),
        ("return cjson.decode('\"\\\\ud800\"')", "invalid unicode escape code"),
        ("return cjson.decode('nil')", "invalid token"),
        ("return cjson.decode('1 2')", "Expected the end but found T_NUMBER at character 3"),
        ("return cjson.decode('\\0\\0')", "UTF-16"),
        ("cjson.decode_max_depth(1) return cjson.decode('[[1]]')", "too many nested data structures (2)"),
    ]);
}

#[test]
fn msgpack_both_ways() {
    check(&[
        ("return cmsgpack.pack(0.1)", r"'\xcb?\xb9\x99\x99\x99\x99\x99\x9a'"),
        ("return cmsgpack.pack(-1099511627776)", r"'\xd3\xff\xff\xff\x00\x00\x00\x00\x00'"),
        (
            "return cmsgpack.pack(1, -1, 200, -100, 70000, 0.5)",
            r"'\x01\xff\xcc\xc8\xd0\x9c\xce\x00\x01\x11p\xca?\x00\x00\x00'",
        ),
        ("return cmsgpack.pack({1,2}, {a=1}, {}, nil, true)", r"'\x92\x01\x02\x81\xa1a\x01\x90\xc0\xc3'"),
        (
            "return {cmsgpack.unpack(cmsgpack.pack(1, 'x', {1, {2}}, -5, 300, 2^40))}",
            "*6 1 'x' *2 1 *1 2 -5 300 1099511627776",
        ),
        (
            "local s = cmsgpack.pack('a', 'b') local at, a = cmsgpack.unpack_one(s) \
          local e, b = cmsgpack.unpack_limit(s, 1, at) return {at, a, e, b}",
            "*4 2 'a' -1 'b'",
        ),
        ("local a = {} a[1] = a return #cmsgpack.pack(a)", "17"),
    ]);
    check_parts(&[
        ("return cmsgpack.unpack('\\217\\255')", "Missing bytes in input."),
        ("return cmsgpack.unpack('\\221\\255\\255\\255\\255')", "Missing bytes in input."),
        ("return cmsgpack.unpack('\\193')", "Bad data format in input."),
        ("return cmsgpack.unpack_one('a', 5)", "Start offset 5 greater than input length 1."),
        ("return cmsgpack.unpack_one('a', -5)", "Invalid request to unpack"),
        ("return cmsgpack.pack()", "MessagePack pack needs input."),
        ("return cmsgpack.unpack('\\129\\192\\1')", "index is nil"),
    ]);
}

/// Bytes that a decoder meets: of its format, damaged, or any.
fn hostile(rng: &mut Rng) -> Vec<u8> {
    const SEEDS: &[&[u8]] = &[
        b"[1,{\"a\":[true,null,\"\\u00e9\\ud83d\\ude00\"]},-1.5e3]",
        b"{\"a\":{\"b\":{\"c\":[[[[]]]]}}}",
        b"\x93\x01\xa3abc\x82\x01\x02\x03\xcb?\xf0\0\0\0\0\0\0",
        b"\xdd\0\0\0\x02\xdf\0\0\0\x01\x01\xdb\0\0\0\x02ab\xd9\x01x",
    ];
    let mut bytes = SEEDS[rng.below(SEEDS.len() as u64) as usize].to_vec();
    if rng.below(4) == 0 {
        bytes = vec![0; rng.below(40) as usize];
        rng.fill(&mut bytes);
    }
    for _ in 0..rng.below(4) {
        let at = rng.below(bytes.len().max(1) as u64) as usize;
        match rng.below(4) {
            0 => bytes.truncate(at),
            1 => bytes = [&bytes[..at], &bytes].concat(),
            2 if at < bytes.len() => bytes[at] = [0xff, 0xdd, 0xdf, 0xc6, b'[', b'"', 0x7f][at % 7],
            _ if at < bytes.len() => bytes[at] = rng.below(256) as u8,
            _ => {}
        }
    }
    bytes
}

/// A format of struct, most likely a bad one.
fn struct_format(rng: &mut Rng) -> Vec<u8> {
    const PARTS: &[&str] = &[
        "i",
        "I",
        "b",
        "h",
        "l",
        "c",
        "s",
        "x",
        "d",
        "f",
        "<",
        ">",
        "!",
        "0",
        "3",
        "8",
        "32",
        "2147483647",
        " ",
    ];
    (0..rng.below(8)).flat_map(|_| PARTS[rng.below(PARTS.len() as u64) as usize].bytes()).collect()
}

#[test]
fn hostile_input_breaks_no_library() {
    let codes = [
        "return {pcall(cjson.decode, ARGV[1])}",
        "local ok, v = pcall(cjson.decode, ARGV[1]) if ok then return cjson.encode(v) end",
        "return {pcall(cmsgpack.unpack, ARGV[1])}",
        "local ok, v = pcall(cmsgpack.unpack, ARGV[1]) if ok then return cmsgpack.pack(v) end",
        "return {pcall(cmsgpack.unpack_limit, ARGV[1], ARGV[3], ARGV[4])}",
        "return {pcall(struct.unpack, ARGV[2], ARGV[1], ARGV[3])}",
        "return {pcall(struct.pack, ARGV[2], ARGV[3], ARGV[1], ARGV[4], ARGV[1])}",
        "return {pcall(struct.size, ARGV[2])}",
        "return {pcall(bit.rol, ARGV[3], ARGV[4]), pcall(bit.tohex, ARGV[3], ARGV[4])}",
        "return {pcall(string.format, ARGV[1], ARGV[3], ARGV[4])}",
        "return {pcall(string.find, ARGV[1], ARGV[2]), pcall(string.gsub, ARGV[1], ARGV[1], ARGV[2])}",
        "return {pcall(loadstring, ARGV[1])}",
    ];
    let numbers = ["0", "1", "-1", "3", "2147483647", "-2147483648", "1e300", "nan", "0x7fffffffffffffff"];
    for seed in 0..4 {
        let (mut rng, mut world) = (Rng::from_seed(seed), World::new());
        for round in 0..1500 {
            let (bytes, format) = (hostile(&mut rng), struct_format(&mut rng));
            let mut number = || numbers[rng.below(numbers.len() as u64) as usize].as_bytes();
            let args = [&bytes[..], &format[..], number(), number()];
            let code = codes[round % codes.len()];
            world.patience = 100;
            let result = world.run_with(code, &[], &args);
            assert!(!result.starts_with("compile"), "seed {seed}, {code}: {result}");
        }
        // The state is as good as new.
        assert_eq!(
            world.run("return cmsgpack.unpack(cmsgpack.pack(cjson.encode({1, 'a'})))"),
            "'[1,\\\"a\\\"]'"
        );
        assert!(world.vm.used_bytes() < 8 << 20, "seed {seed}: {}", world.vm.used_bytes());
    }
}

#[test]
fn struct_and_bit() {
    check(&[
        ("return struct.pack('>I2h', 258, -2)", r"'\x01\x02\xff\xfe'"),
        ("return struct.pack('<!4bi', 1, 2)", r"'\x01\x00\x00\x00\x02\x00\x00\x00'"),
        ("return struct.pack('sc2c0x', 'ab', 'cde', 'f')", r"'ab\x00cdf\x00'"),
        ("return {struct.unpack('>I2h', '\\1\\2\\255\\254')}", "*3 258 -2 5"),
        ("return {struct.unpack('bc0', '\\3abcd')}", "*2 'abc' 5"),
        ("return {struct.unpack('>d', struct.pack('>d', 5))}", "*2 5 9"),
        ("return struct.size('>i3!8d')", "16"),
        (
            "return {bit.band(0xff, 0x0f), bit.bnot(0), bit.lshift(1, 31), bit.rshift(-1, 28)}",
            "*4 15 -1 -2147483648 15",
        ),
        (
            "return {bit.tohex(65535, -2147483648), bit.tohex(255, 2), bit.arshift(-8, 1), bit.bswap(1)}",
            "*4 '0000FFFF' 'ff' -4 16777216",
        ),
    ]);
    check_parts(&[
        ("return struct.unpack('I4', 'ab')", "data string too short"),
        ("return struct.unpack('s', 'ab')", "unfinished string in data"),
        ("return struct.unpack('c0', 'ab')", "needs a previous size"),
        ("return struct.unpack('bc0', '\\255ab')", "data string too short"),
        ("return struct.unpack('i99', 'ab')", "integral size 99 is larger than limit of 32"),
        ("return struct.pack('i99999999999', 1)", "integral size overflow"),
        ("return struct.unpack('c2147483647', 'ab', 2147483647)", "data string too short"),
        ("return struct.pack('c9', 'ab')", "string too short"),
        ("return struct.pack('!3i', 1)", "alignment 3 is not a power of 2"),
        ("return struct.pack('q', 1)", "invalid format option 'q'"),
        ("return bit.band({})", "number expected, got table"),
    ]);
}

#[test]
fn libraries_register_functions() {
    let mut vm = Vm::new(Role::Functions, 64 << 20, 1);
    let mut load = |code: &str| {
        let chunk = vm.compile(c"@user_function", code.as_bytes()).unwrap();
        vm.begin_load(&chunk);
        assert_eq!(vm.start(), Step::Done);
        let result = vm.returned();
        let names: Vec<_> = vm.end_load().into_iter().map(|r| String::from_utf8(r.name).unwrap()).collect();
        vm.forget(chunk);
        match result {
            Returned::Value => names.join(" "),
            Returned::Raised(failure) => String::from_utf8(failure.text).unwrap(),
            Returned::Broken(text) => String::from_utf8(text).unwrap(),
            Returned::Error(_) => unreachable!(),
        }
    };
    let two = "redis.register_function('f', function() end) \
               redis.register_function{function_name='g', callback=function() end, flags={'no-writes'}}";
    assert_eq!(load(two), "f g");
    let parts = [
        ("redis.register_function()", "wrong number of arguments"),
        ("redis.register_function('f')", "only applicable to Lua table"),
        ("redis.register_function(nil, function() end)", "first argument"),
        ("redis.register_function('f', 1)", "second argument"),
        ("redis.register_function('f\\0', function() end)", "Library names can only"),
        ("redis.register_function{callback=function() end}", "must get a function name"),
        ("redis.register_function{function_name='f'}", "must get a callback"),
        ("redis.register_function{function_name='f', flags={'x'}}", "unknown flag given"),
        ("redis.register_function{x=1}", "unknown argument"),
        ("local f = function() end for i = 1, 2 do redis.register_function('f', f) end", "already exists in"),
        ("return math.random()", "nonexistent global variable 'math'"),
        ("return redis.call('ping')", "nonexistent global variable 'call'"),
        ("mt = getmetatable(_G)", "nonexistent global variable 'getmetatable'"),
        ("a = 1", "Attempt to modify a readonly table"),
        ("redis.x = 1", "Attempt to modify a readonly table"),
    ];
    for (code, part) in parts {
        let result = load(code);
        assert!(result.contains(part), "{code}: {result}");
    }
}
