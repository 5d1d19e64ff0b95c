//! Shapes of transactions, scripts, functions, access control, client-side caching and PUBSUB. Replies that
//! differ between 7.0, which is compared with, and 7.4 are brought to one form by `normal`.

use super::Word::{self, Fixed, Key, Made, OneOf, Value};
use aikv::util::rng::Rng;

fn pick(rng: &mut Rng, list: &[&str]) -> Vec<u8> {
    list[rng.below(list.len() as u64) as usize].as_bytes().to_vec()
}

/// Values of Lua.
const LUA_VALUES: &[&str] = &[
    "1",
    "-1.9",
    "2^53",
    "-2^31",
    "1/0",
    "'text'",
    "''",
    "true",
    "false",
    "nil",
    "{}",
    "{1,2,3}",
    "{1,nil,3}",
    "{a=1}",
    "{ok='fine'}",
    "{err='MY error'}",
    "{1,{2,{3}},'x',false,true}",
    "{double=1.5}",
    "{map={a=1}}",
    "{set={a=true}}",
    "{big_number='123'}",
    "{verbatim_string={string='x',format='txt'}}",
    "KEYS",
    "ARGV",
    "#KEYS",
    "KEYS[1]",
    "ARGV[1]",
    "redis.error_reply('E x')",
    "redis.error_reply('-E x')",
    "redis.status_reply('s')",
    "tonumber(ARGV[1])",
    "function() end",
];

/// Expressions of the libraries; each gives a value or an error whose text is compared.
const LUA_LIBRARIES: &[&str] = &[
    "cjson.encode(V)",
    "cjson.decode(cjson.encode({1,{a='x'},true}))",
    "cjson.decode(ARGV[1])",
    "cjson.decode('[1,2.5,\"x\",null,{\"a\":[]}]')",
    "cjson.encode({a={1,2},b=cjson.null})",
    "cmsgpack.unpack(cmsgpack.pack(1,'a',{1,2},{x=1},-5,1.5))",
    "{cmsgpack.unpack(ARGV[1])}",
    "cmsgpack.pack(V)",
    "{cmsgpack.unpack_limit(cmsgpack.pack(1,2,3),2,0)}",
    "struct.pack('>I2hc3s',1,-2,'abc','z')",
    "{struct.unpack('>I2h',struct.pack('>I2h',7,-7))}",
    "{struct.unpack('bc0',ARGV[1])}",
    "struct.size('i4i8')",
    "{struct.unpack('<i4','abc')}",
    "{bit.band(255,V),1}",
    "bit.tohex(bit.bnot(5))",
    "{bit.rol(1,31),bit.ror(1,1),bit.bswap(1),bit.tobit(2^31)}",
    "redis.sha1hex(ARGV[1] or '')",
    "string.format('%5.2f|%d|%q|%x', 1.234, 7, 'a\"b', 255)",
    "{string.find('hello','l+')}",
    "{string.gsub('hello','l','L')}",
    "table.concat({1,2,3},',')",
    "tostring(V):sub(1,5)",
    "type(V)",
    "#V",
    "V .. 'x'",
    "V + 1",
    "V.x",
    "{pcall(error,V)}",
    "{pcall(redis.pcall)}",
    "select('#',unpack({1,2,3}))",
    "_VERSION",
    "redis.acl_check_cmd('get','x')",
    "nosuch",
    "redis.nosuch",
];

/// Commands called from scripts.
const LUA_CALLS: &[&str] = &[
    "redis.call('set',KEYS[1],ARGV[1])",
    "redis.call('get',KEYS[1])",
    "redis.pcall('get',KEYS[1])",
    "redis.call('incr',KEYS[1])",
    "redis.pcall('incr',KEYS[1])",
    "redis.pcall('incr',KEYS[1])['err']",
    "redis.call('lrange',KEYS[1],0,-1)",
    "redis.pcall('lpush',KEYS[1],1,2.5,'x')",
    "redis.call('nosuch')",
    "redis.pcall('nosuch')",
    "redis.call('get')",
    "redis.call('set',KEYS[1],{})",
    "redis.call('multi')",
    "redis.call('subscribe',KEYS[1])",
    "redis.call('exists',KEYS[1],KEYS[2])",
    "redis.call('type',KEYS[1])",
    "redis.call('set',KEYS[1],3.25)",
    "redis.call('set',KEYS[1],7)",
    "redis.call('mget',KEYS[1],'no')",
    "redis.pcall('hset',KEYS[1],'f',ARGV[1])",
    "redis.pcall('zadd',KEYS[1],1,'m')",
    "redis.call('del',KEYS[1])",
    "redis.call('publish','c','m')",
    "redis.call('ping').ok",
    "redis.call('select','99')",
];

fn value_of_lua(rng: &mut Rng) -> String {
    String::from_utf8(pick(rng, LUA_VALUES)).expect("text")
}

fn script(rng: &mut Rng) -> Vec<u8> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    match rng.below(8) {
        0 | 1 => format!("return {}", value_of_lua(rng)),
        2 => format!("return {{{}, {}}}", value_of_lua(rng), value_of_lua(rng)),
        3 | 4 => format!("return {}", text(pick(rng, LUA_LIBRARIES)).replace('V', &value_of_lua(rng))),
        5 => format!("return {}", text(pick(rng, LUA_CALLS))),
        6 => format!("{} return {}", text(pick(rng, LUA_CALLS)), text(pick(rng, LUA_CALLS))),
        _ => text(pick(
            rng,
            &[
                "error('boom')",
                "error({err='MY boom'})",
                "error('far',0)",
                "x = 1",
                "return (",
                "local t = {} t.x.y = 1",
                "redis.x = 1",
                "",
                "#!lua\nreturn #KEYS",
                "#!lua flags=no-writes\nreturn redis.call('set',KEYS[1],1)",
                "#!lua flags=nosuch\nreturn 1",
                "#!nosuch\nreturn 1",
                "#!lua x=y\nreturn 1",
                "redis.setresp(3) return redis.pcall('hgetall',KEYS[1])",
                "redis.setresp(4)",
                "for i=1,3 do redis.call('rpush',KEYS[2],i) end return redis.call('llen',KEYS[2])",
                "return redis.call('get',KEYS[1]) == false",
            ],
        )),
    }
    .into_bytes()
}

fn digest(rng: &mut Rng) -> Vec<u8> {
    // Of `return 1`, of `return KEYS`, and of none.
    const DIGESTS: &[&str] = &[
        "e0e1f9fabfc9d4800c877a703b823ac0578ff8db",
        "E0E1F9FABFC9D4800C877A703B823AC0578FF8DB",
        "4ca238f611c9d0ae4e9a75a5dbac22aedc1e44d0",
        "short",
    ];
    pick(rng, DIGESTS)
}

fn library(rng: &mut Rng) -> Vec<u8> {
    const HEADS: &[&str] = &[
        "#!lua name=a",
        "#!lua name=a",
        "#!lua name=b",
        "#!lua",
        "#!lua name=a-b",
        "#!py name=a",
        "",
        "#!lua x=y",
    ];
    const BODIES: &[&str] = &[
        "redis.register_function('f', function(keys, args) return {#keys, #args, keys[1], args[1]} end)",
        "redis.register_function('g', function(keys) return redis.call('get', keys[1]) end)",
        "redis.register_function{function_name='h', callback=function() return 1 end, flags={'no-writes'}}",
        "redis.register_function{function_name='h', callback=function() end, flags={'nosuch'}}",
        "redis.register_function('f-g', function() end)",
        "redis.register_function('f', 1)",
        "redis.register_function('f')",
        "redis.call('ping')",
        "error('boom')",
        "x = 1",
        "return nosuch",
        "(",
        "",
    ];
    [pick(rng, HEADS), b"\n".to_vec(), pick(rng, BODIES)].concat()
}

fn rule(rng: &mut Rng) -> Vec<u8> {
    const RULES: &[&str] = &[
        "on",
        "off",
        "nopass",
        "resetpass",
        ">secret",
        "<secret",
        "#xyz",
        "allkeys",
        "resetkeys",
        "~key:*",
        "%R~key:*",
        "%W~key:1*",
        "%RW~x",
        "%~x",
        "%X~x",
        "&*",
        "&news*",
        "resetchannels",
        "+get",
        "-get",
        "+set",
        "+@all",
        "-@all",
        "+config|get",
        "+config|nosuch",
        "+nosuch",
        "+@nosuch",
        "(+get ~x)",
        "(+nosuch)",
        "(on)",
        "clearselectors",
        "reset",
        "nosuch",
        "+config|get|x",
        "",
        "~a b",
        "(",
        "+select|0",
    ];
    pick(rng, RULES)
}

/// What users are compared by: their other texts were written anew in 7.2.
const MAY: &[&str] = &["get", "set", "del", "nosuch", "config", "publish"];

/// The shapes.
pub const UNITS: &[&[Word]] = &[
    &[Fixed("EVAL"), Made(script), Fixed("2"), Key, Key, Value],
    &[Fixed("EVAL"), Made(script), Fixed("2"), Key, Key, OneOf(&["1", "[1,{}]", "{\"a\":", "\u{1}\u{2}"])],
    &[Fixed("EVAL"), Made(script), Fixed("1"), Key],
    &[Fixed("EVAL"), Made(script), Fixed("0")],
    &[Fixed("EVAL"), Made(script), OneOf(&["-1", "x", "3", "1.5", "99999999999999999999"]), Key],
    &[Fixed("EVAL_RO"), Made(script), Fixed("2"), Key, Key, Value],
    &[Fixed("EVALSHA"), Made(digest), Fixed("1"), Key, Value],
    &[Fixed("EVALSHA_RO"), Made(digest), OneOf(&["0", "1", "-1", "x"]), Key],
    &[Fixed("SCRIPT"), Fixed("LOAD"), OneOf(&["return 1", "return KEYS", "return (", ""])],
    &[Fixed("SCRIPT"), Fixed("EXISTS"), Made(digest), Made(digest)],
    &[Fixed("SCRIPT"), OneOf(&["FLUSH", "KILL", "EXISTS", "NOSUCH"])],
    &[Fixed("SCRIPT"), Fixed("FLUSH"), OneOf(&["ASYNC", "SYNC", "NOSUCH"])],
    &[Fixed("FUNCTION"), Fixed("LOAD"), Made(library)],
    &[Fixed("FUNCTION"), Fixed("LOAD"), Fixed("REPLACE"), Made(library)],
    &[Fixed("FUNCTION"), Fixed("DELETE"), OneOf(&["a", "b", "nosuch"])],
    &[
        Fixed("FUNCTION"),
        Fixed("LIST"),
        Fixed("LIBRARYNAME"),
        OneOf(&["a", "b", "nosuch"]),
        Fixed("WITHCODE"),
    ],
    &[Fixed("FUNCTION"), OneOf(&["FLUSH", "KILL", "NOSUCH", "STATS"])],
    &[Fixed("FUNCTION"), Fixed("RESTORE"), OneOf(&["x", ""]), OneOf(&["FLUSH", "APPEND", "NOSUCH"])],
    &[Fixed("FCALL"), OneOf(&["f", "g", "h", "F", "nosuch"]), Fixed("1"), Key, Value],
    &[Fixed("FCALL"), OneOf(&["f", "g", "h"]), OneOf(&["0", "-1", "x", "9"]), Key],
    &[Fixed("FCALL_RO"), OneOf(&["f", "g", "h"]), Fixed("1"), Key],
    &[Fixed("MULTI")],
    &[Fixed("MULTI")],
    &[Fixed("EXEC")],
    &[Fixed("EXEC"), Fixed("x")],
    &[Fixed("DISCARD")],
    &[Fixed("WATCH"), Key, Key],
    &[Fixed("UNWATCH")],
    &[Fixed("ACL"), Fixed("SETUSER"), OneOf(&["u", "v"]), Made(rule)],
    &[Fixed("ACL"), Fixed("SETUSER"), OneOf(&["u", "v"]), Made(rule), Made(rule), Made(rule)],
    &[Fixed("ACL"), Fixed("DELUSER"), OneOf(&["v", "nosuch", "default"])],
    &[Fixed("ACL"), Fixed("GETUSER"), OneOf(&["u", "v", "nosuch"])],
    &[Fixed("ACL"), Fixed("DRYRUN"), OneOf(&["u", "v", "nosuch"]), OneOf(MAY), Key],
    &[Fixed("ACL"), Fixed("DRYRUN"), OneOf(&["u", "v"]), Fixed("set"), Key, Value],
    &[Fixed("ACL"), OneOf(&["USERS", "WHOAMI", "NOSUCH", "CAT", "LOAD", "SAVE"])],
    &[Fixed("ACL"), Fixed("CAT"), OneOf(&["nosuch", "x"])],
    &[Fixed("ACL"), Fixed("GENPASS"), OneOf(&["x", "0", "-1", "99999"])],
    &[Fixed("AUTH"), OneOf(&["default", "nosuch"]), Fixed("wrong")],
    &[Fixed("CLIENT"), Fixed("TRACKING"), OneOf(&["ON", "OFF", "x"])],
    &[
        Fixed("CLIENT"),
        Fixed("TRACKING"),
        OneOf(&["ON", "OFF"]),
        OneOf(&["OPTIN", "OPTOUT", "BCAST", "NOLOOP", "x"]),
    ],
    &[Fixed("CLIENT"), Fixed("TRACKING"), Fixed("ON"), Fixed("OPTIN"), OneOf(&["OPTOUT", "BCAST", "NOLOOP"])],
    &[
        Fixed("CLIENT"),
        Fixed("TRACKING"),
        Fixed("ON"),
        OneOf(&["BCAST", "OPTIN"]),
        Fixed("PREFIX"),
        OneOf(&["a", "ab", "b"]),
        Fixed("PREFIX"),
        OneOf(&["c", "abc", "bc"]),
    ],
    &[Fixed("CLIENT"), Fixed("TRACKING"), Fixed("ON"), Fixed("REDIRECT"), OneOf(&["x", "-1", "99999999"])],
    &[Fixed("CLIENT"), Fixed("CACHING"), OneOf(&["YES", "NO", "x"])],
    &[Fixed("CLIENT"), OneOf(&["TRACKINGINFO", "GETREDIR"])],
    &[Fixed("PUBSUB"), OneOf(&["CHANNELS", "NUMPAT", "NUMSUB", "SHARDCHANNELS", "SHARDNUMSUB", "NOSUCH"])],
    &[Fixed("PUBSUB"), OneOf(&["CHANNELS", "NUMSUB", "NUMPAT", "SHARDNUMSUB"]), OneOf(&["*", "c", "n*"])],
    &[OneOf(&["PUBLISH", "SPUBLISH"]), OneOf(&["c", "news"]), Value],
];

/// Brings a reply of 7.0 or ours to the form that both have.
pub fn normal(words: &[Vec<u8>], reply: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8_lossy(&reply).into_owned();
    let is = |i: usize, word: &str| words.get(i).is_some_and(|w| w.eq_ignore_ascii_case(word.as_bytes()));
    if is(0, "ACL") && is(1, "DRYRUN") && text.starts_with('$') {
        // 7.2 names the user.
        return b"refused".to_vec();
    }
    if is(0, "ACL") && is(1, "GETUSER") {
        return flags_and_keys(&text).into_bytes();
    }
    reply
}

/// What 7.0 and 7.4 say alike of a user: neither its commands, of which 7.2 keeps the rules as they were
/// given, nor whether payloads are looked at, of which 7.0 says nothing.
fn flags_and_keys(text: &str) -> String {
    let lines: Vec<&str> = text.split("\r\n").filter(|line| !line.starts_with(['$', '*'])).collect();
    let mut shown = Vec::new();
    let mut skip = false;
    for line in lines {
        if skip {
            skip = false;
        } else if line == "commands" {
            skip = true;
        } else if line != "sanitize-payload" {
            shown.push(line);
        }
    }
    shown.join(" ")
}
