//! The arguments of a command as a tree, read from its row's `usage` line: what COMMAND DOCS answers and
//! docs/commands.md shows. Knows no client. The notation is the one of Redis' help:
//!
//! - `word`: a value; `WORD` or a sign: said as it stands, a *token*;
//! - `TOKEN value ...`: the token belongs to the values behind it, up to the next token or bracket;
//! - `[a]`: optional; `[a | b]`: optional, one of these; `<a | b>`: one of these;
//! - `a b [a b ...]`: once or more often; `<a | b> ...` is short for `<a | b> [<a | b> ...]`.

use super::spec::Spec;

/// An argument, or a group of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Its name: the word of the usage line; of a group one made of its parts.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The token in front of it (of a pure token: the token).
    pub token: Option<String>,
    /// Whether it may be left out.
    pub optional: bool,
    /// Whether there may be several.
    pub multiple: bool,
    /// Whether each of several has the token in front of it, and not only the first.
    pub multiple_token: bool,
    /// The key spec that finds it, if it is a key.
    pub key_spec: Option<usize>,
}

/// Kinds of arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value of a type that COMMAND DOCS names (`key`, `integer`, ...).
    Value(&'static str),
    /// Only its token.
    PureToken,
    /// One of these.
    OneOf(Vec<Arg>),
    /// All of these, in order.
    Block(Vec<Arg>),
}

impl Arg {
    fn new(name: String, kind: Kind) -> Arg {
        Arg {
            name,
            kind,
            token: None,
            optional: false,
            multiple: false,
            multiple_token: false,
            key_spec: None,
        }
    }

    /// The type's name in COMMAND DOCS.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Value(name) => name,
            Kind::PureToken => "pure-token",
            Kind::OneOf(_) => "oneof",
            Kind::Block(_) => "block",
        }
    }

    /// The parts of a group.
    pub fn parts(&self) -> &[Arg] {
        match &self.kind {
            Kind::OneOf(parts) | Kind::Block(parts) => parts,
            Kind::Value(_) | Kind::PureToken => &[],
        }
    }
}

/// The arguments of a command. Its usage line is known to be well formed: a test reads all rows.
pub fn arguments(spec: &Spec) -> Vec<Arg> {
    let mut args = parse(spec.usage).expect("the usage line of a row is well formed");
    let mut keys = 0;
    args.iter_mut().for_each(|arg| settle(arg, spec, &mut keys));
    args
}

/// Sets what depends on the row: types that differ from the usual, and which key spec finds a key.
fn settle(arg: &mut Arg, spec: &Spec, keys: &mut usize) {
    match &mut arg.kind {
        Kind::OneOf(parts) | Kind::Block(parts) => parts.iter_mut().for_each(|p| settle(p, spec, keys)),
        Kind::Value(kind) => {
            let special = SPECIAL_TYPES.iter().find(|(name, commands, _)| {
                *name == arg.name && commands.split(' ').any(|command| command == spec.name)
            });
            if let Some((_, _, special)) = special {
                *kind = special;
            }
            if *kind == "key" && !spec.keys.is_empty() {
                arg.key_spec = Some((*keys).min(spec.keys.len() - 1));
                *keys += 1;
            }
        }
        Kind::PureToken => {}
    }
}

/// Types by name; what is not here is a string.
const TYPES: &[(&str, &str)] = &[
    ("key", "destination destkey dst key key1 key2 newkey source sourcekey src"),
    ("double", "height latitude longitude radius score width"),
    ("pattern", "pattern"),
    ("unix-time", "unix-time-milliseconds unix-time-seconds"),
    (
        "integer",
        "bit bits client-id cluster-bus-port config-epoch count current-epoch cursor db decrement \
         destination-db end end-slot entries-added entries-read frequency increment index index1 index2 len \
         limit maxage milliseconds min-match-len ms num-matches numfields numkeys numlocal numreplicas \
         offset port protover quorum rank seconds slot start start-slot stop timeout ttl version weight",
    ),
];

/// Types that differ from the usual: (name, commands, type).
const SPECIAL_TYPES: &[(&str, &str, &str)] = &[
    ("timeout", "blpop brpop blmove brpoplpush blmpop bzpopmin bzpopmax bzmpop", "double"),
    ("increment", "incrbyfloat hincrbyfloat", "double"),
    ("min", "zcount zrangebyscore zrevrangebyscore zremrangebyscore", "double"),
    ("max", "zcount zrangebyscore zrevrangebyscore zremrangebyscore", "double"),
    ("start", "xautoclaim xpending zrange xrange xrevrange", "string"),
    ("stop", "zrange", "string"),
    ("end", "xpending xrange xrevrange", "string"),
    ("min-idle-time", "xpending", "integer"),
    ("value", "setbit bitfield", "integer"),
    ("key", "cluster|keyslot", "string"),
];

fn type_of(name: &str) -> &'static str {
    let has = |names: &str| names.split_whitespace().any(|known| known == name);
    TYPES.iter().find(|(_, names)| has(names)).map_or("string", |(kind, _)| kind)
}

// ---- reading ----

/// A piece of the line before its meaning is known.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Word(String),
    Group { optional: bool, alternatives: Vec<Vec<Node>>, repeats: bool },
}

/// Reads a usage line. The error says what is wrong with it.
pub fn parse(usage: &str) -> Result<Vec<Arg>, String> {
    let words = lex(usage);
    let mut at = 0;
    let (mut alternatives, _) = read_alternatives(&words, &mut at, None)?;
    match (alternatives.len(), at == words.len()) {
        (1, true) => interpret(&alternatives.remove(0)),
        (_, true) => Err("alternatives stand in brackets".to_owned()),
        (_, false) => Err(format!("unexpected {}", words[at])),
    }
}

/// Brackets and bars are words of their own; the others end at white space.
fn lex(usage: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for chunk in usage.split_whitespace() {
        let mut rest = chunk;
        while let Some(at) = rest.find(['[', ']', '<', '>', '|']) {
            words.extend([&rest[..at], &rest[at..=at]].into_iter().filter(|word| !word.is_empty()));
            rest = &rest[at + 1..];
        }
        words.extend(Some(rest).filter(|word| !word.is_empty()));
    }
    words
}

/// Reads up to the closing bracket `until`, or the end. The second part says whether `...` stood last.
fn read_alternatives(
    words: &[&str],
    at: &mut usize,
    until: Option<&str>,
) -> Result<(Vec<Vec<Node>>, bool), String> {
    let mut alternatives = vec![Vec::new()];
    let mut repeats = false;
    while let Some(word) = words.get(*at).copied() {
        if Some(word) == until {
            *at += 1;
            return Ok((alternatives, repeats));
        }
        if repeats {
            return Err("something behind ...".to_owned());
        }
        *at += 1;
        let last = alternatives.last_mut().expect("there is always one");
        match word {
            "[" | "<" => last.push(read_group(words, at, word == "[")?),
            "]" | ">" => return Err(format!("{word} closes nothing")),
            "|" => alternatives.push(Vec::new()),
            "..." => repeats = true,
            word => last.push(Node::Word(word.to_owned())),
        }
    }
    if until.is_some() || repeats {
        return Err("a bracket is not closed, or ... stands outside".to_owned());
    }
    Ok((alternatives, false))
}

fn read_group(words: &[&str], at: &mut usize, optional: bool) -> Result<Node, String> {
    let close = if optional { "]" } else { ">" };
    let (alternatives, mut repeats) = read_alternatives(words, at, Some(close))?;
    if alternatives.iter().any(Vec::is_empty) {
        return Err("an empty alternative".to_owned());
    }
    if !optional {
        if repeats {
            return Err("... inside <>".to_owned());
        }
        repeats = words.get(*at) == Some(&"...");
        *at += usize::from(repeats);
    }
    Ok(Node::Group { optional, alternatives, repeats })
}

// ---- meaning ----

/// Whether a word is said as it stands.
fn is_token(word: &str) -> bool {
    !word.bytes().any(|b| b.is_ascii_lowercase())
}

/// The arguments of a sequence of nodes.
fn interpret(nodes: &[Node]) -> Result<Vec<Arg>, String> {
    // Each argument with the node it began at, so that a repetition finds what it repeats.
    let mut args: Vec<(usize, Arg)> = Vec::new();
    let mut at = 0;
    while at < nodes.len() {
        match &nodes[at] {
            Node::Group { optional: true, alternatives, repeats: true } => {
                repeat(nodes, at, alternatives, &mut args)?;
                at += 1;
            }
            Node::Group { optional, alternatives, repeats } => {
                let mut arg = group(alternatives)?;
                if *optional && arg.optional {
                    arg = block(vec![arg]);
                }
                arg.optional |= *optional;
                arg.multiple |= *repeats;
                args.push((at, arg));
                at += 1;
            }
            Node::Word(word) if is_token(word) => {
                let end = end_of_values(nodes, at + 1);
                args.push((at, with_token(word, &nodes[at + 1..end])?));
                at = end;
            }
            Node::Word(word) => {
                args.push((at, Arg::new(word.clone(), Kind::Value(type_of(word)))));
                at += 1;
            }
        }
    }
    Ok(args.into_iter().map(|(_, arg)| arg).collect())
}

/// Where the values that belong to a token end: words, repetitions of them, or one `<...>` at once.
fn end_of_values(nodes: &[Node], from: usize) -> usize {
    if let Some(Node::Group { optional: false, .. }) = nodes.get(from) {
        return from + 1;
    }
    let belongs = |node: &Node| match node {
        Node::Word(word) => !is_token(word),
        Node::Group { optional: true, alternatives, repeats: true } => {
            matches!(&alternatives[0][0], Node::Word(word) if !is_token(word))
        }
        Node::Group { .. } => false,
    };
    from + nodes[from..].iter().take_while(|node| belongs(node)).count()
}

fn with_token(word: &str, values: &[Node]) -> Result<Arg, String> {
    let mut values = interpret(values)?;
    let mut arg = match values.len() {
        0 => Arg::new(token_name(word), Kind::PureToken),
        1 => values.remove(0),
        _ => block(values),
    };
    if arg.token.is_some() {
        arg = block(vec![arg]);
    }
    arg.token = Some(word.to_owned());
    Ok(arg)
}

/// Marks as repeated what stands in front of `[... ...]`.
fn repeat(
    nodes: &[Node],
    at: usize,
    alternatives: &[Vec<Node>],
    args: &mut Vec<(usize, Arg)>,
) -> Result<(), String> {
    let [content] = alternatives else { return Err("a repetition has no alternatives".to_owned()) };
    let from = at.checked_sub(content.len()).filter(|from| nodes[*from..at] == content[..]);
    let from = from.ok_or("a repetition differs from what it repeats")?;
    let first = args.iter().position(|(begun, _)| *begun >= from).ok_or("a repetition of nothing")?;
    if args[first].0 != from {
        return Err("a repetition begins inside an argument".to_owned());
    }
    let mut repeated: Vec<Arg> = args.drain(first..).map(|(_, arg)| arg).collect();
    let mut arg = if repeated.len() == 1 { repeated.remove(0) } else { block(repeated) };
    arg.multiple = true;
    arg.multiple_token = arg.token.is_some();
    args.push((from, arg));
    Ok(())
}

fn group(alternatives: &[Vec<Node>]) -> Result<Arg, String> {
    let mut args = Vec::new();
    for alternative in alternatives {
        let mut parts = interpret(alternative)?;
        args.push(if parts.len() == 1 { parts.remove(0) } else { block(parts) });
    }
    if args.len() == 1 {
        return Ok(args.remove(0));
    }
    let name = match &args[..] {
        [a, b] => format!("{}-or-{}", a.name, b.name),
        more => format!("{}-or-other", more[0].name),
    };
    Ok(Arg::new(name, Kind::OneOf(args)))
}

fn block(parts: Vec<Arg>) -> Arg {
    let names: Vec<&str> = parts.iter().map(|arg| arg.name.as_str()).collect();
    Arg::new(names.join("-"), Kind::Block(parts))
}

/// The name of an argument that is only a token.
fn token_name(token: &str) -> String {
    let name = match token {
        "=" => "equal",
        "~" => "approximately",
        "*" => "auto-id",
        "$" => "new-id",
        "\"\"" => "empty-string",
        word => return word.to_ascii_lowercase(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree as a short text: `token:name=type?*` with parts in parentheses.
    fn show(args: &[Arg]) -> String {
        let one = |arg: &Arg| {
            let token = arg.token.as_ref().map_or(String::new(), |token| format!("{token}:"));
            let inner = match &arg.kind {
                Kind::Value(kind) => format!("{}={kind}", arg.name),
                Kind::PureToken => "!".to_owned(),
                Kind::OneOf(parts) => format!("one({})", show(parts)),
                Kind::Block(parts) => format!("all({})", show(parts)),
            };
            let mark = |on: bool, mark: &'static str| if on { mark } else { "" };
            let (optional, multiple) = (mark(arg.optional, "?"), mark(arg.multiple, "*"));
            format!("{token}{inner}{optional}{multiple}{}", mark(arg.multiple_token, "T"))
        };
        args.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn trees() {
        for (usage, tree) in [
            ("", ""),
            ("key [key ...]", "key=key*"),
            (
                "key value [NX | XX] [GET] [EX seconds | KEEPTTL]",
                "key=key value=string one(NX:! XX:!)? GET:!? one(EX:seconds=integer KEEPTTL:!)?",
            ),
            ("key value [key value ...]", "all(key=key value=string)*"),
            ("[section [section ...]]", "section=string?*"),
            (
                "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC]",
                "key=key BY:pattern=pattern? LIMIT:all(offset=integer count=integer)? GET:pattern=pattern?*T \
              one(ASC:! DESC:!)?",
            ),
            (
                "[COUNT count] STREAMS key [key ...] id [id ...]",
                "COUNT:count=integer? STREAMS:all(key=key* id=string*)",
            ),
            (
                "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
                "numkeys=integer key=key* WEIGHTS:weight=integer?* AGGREGATE:one(SUM:! MIN:! MAX:!)?",
            ),
            (
                "key [<MAXLEN | MINID> [= | ~] threshold [LIMIT count]] <* | id>",
                "key=key all(one(MAXLEN:! MINID:!) one(=:! ~:!)? threshold=string LIMIT:count=integer?)? \
              one(*:! id=string)",
            ),
            ("<host port | NO ONE>", "one(all(host=string port=integer) all(NO:! ONE:!))"),
            (
                "<BYRADIUS radius <M | KM> | BYBOX width height <M | KM>>",
                "one(all(BYRADIUS:radius=double one(M:! KM:!)) \
              all(BYBOX:all(width=double height=double) one(M:! KM:!)))",
            ),
            (
                "key bit [start [end [BYTE | BIT]]]",
                "key=key bit=integer all(start=integer all(end=integer one(BYTE:! BIT:!)?)?)?",
            ),
            (
                "<ip:port | <[ID client-id] | [ADDR ip:port]> ...>",
                "one(ip:port=string one(ID:client-id=integer? ADDR:ip:port=string?)*)",
            ),
        ] {
            assert_eq!(show(&parse(usage).unwrap()), tree, "{usage}");
        }
    }

    #[test]
    fn faults_are_found() {
        for usage in
            ["[key", "key]", "a | b", "key [value ...]", "[]", "<a | >", "key ...", "[a ... b]", "<a ...>"]
        {
            assert!(parse(usage).is_err(), "{usage}");
        }
    }
}
