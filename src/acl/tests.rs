//! Tests of rules, checks and files over a few made-up rows.

use super::*;
use crate::command::spec::Channels;
use crate::command::spec::{Flags, SPEC, Spec, access, key, range};
use crate::resp::OwnedArgs;

static ROWS: &[Spec] = &[
    Spec { name: "get", flags: Flags::READONLY, keys: &[key(1, access::RO | access::ACCESS)], ..SPEC },
    Spec { name: "set", flags: Flags::WRITE, keys: &[key(1, access::OW | access::UPDATE)], ..SPEC },
    Spec { name: "del", flags: Flags::WRITE, keys: &[range(1, -1, 1, access::RM | access::DELETE)], ..SPEC },
    Spec { name: "type", flags: Flags::READONLY, keys: &[key(1, access::RO)], ..SPEC },
    Spec { name: "config|get", flags: Flags::ADMIN, ..SPEC },
    Spec { name: "config|set", flags: Flags::ADMIN, ..SPEC },
    Spec { name: "config", flags: Flags::CONTAINER, ..SPEC },
    Spec { name: "select", flags: Flags::FAST, ..SPEC },
    Spec { name: "publish", flags: Flags::PUBSUB, channels: Channels::First, ..SPEC },
    Spec { name: "psubscribe", flags: Flags::PUBSUB, channels: Channels::Patterns, ..SPEC },
    Spec { name: "auth", flags: Flags::NO_AUTH, ..SPEC },
];

fn acl() -> Acl {
    Acl::new(Catalog::new(ROWS.iter().collect()))
}

fn user(rules: &str) -> User {
    let words: Vec<&[u8]> = rules.split(' ').map(str::as_bytes).collect();
    acl().changed_user(b"u", &words, false).unwrap()
}

/// The reason why a user may not run a request, or nothing.
fn refused(user: &User, request: &str) -> Option<(Reason, usize)> {
    let acl = acl();
    let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
    let args = OwnedArgs::from_slices(&words);
    let sub = words.get(1).map(|sub| [words[0], b"|", *sub].concat());
    let id = sub.and_then(|name| acl.catalog().find(&name)).or_else(|| acl.catalog().find(words[0]));
    let id = id.unwrap();
    user.check(id, acl.catalog().spec(id), &args.as_args()).err().map(|d| (d.reason, d.index))
}

#[test]
fn keys_are_allowed_by_read_and_write() {
    let u = user("+@all %R~r* %W~w* ~b*");
    for allowed in ["get r1", "set w1 x", "get b", "set b x", "type r", "type w", "del w1 b2", "auth x"] {
        assert_eq!(refused(&u, allowed), None, "{allowed}");
    }
    assert_eq!(refused(&u, "set r1 x"), Some((Reason::Key, 1)));
    assert_eq!(refused(&u, "get w1"), Some((Reason::Key, 1)));
    assert_eq!(refused(&u, "type x"), Some((Reason::Key, 1)));
    assert_eq!(refused(&u, "del b1 w r"), Some((Reason::Key, 3)));
}

#[test]
fn selectors_do_not_add_up_and_the_nearest_gives_the_reason() {
    let u = user("+get ~a (+set ~b) (+@all %W~c)");
    assert_eq!(refused(&u, "get a"), None);
    assert_eq!(refused(&u, "set b x"), None);
    assert_eq!(refused(&u, "set a x"), Some((Reason::Key, 1)));
    assert_eq!(refused(&u, "del c a"), Some((Reason::Key, 2)));
    assert_eq!(refused(&user("+get ~a (+set ~b)"), "del a"), Some((Reason::Command, 0)));
    assert!(!u.is_unrestricted() && user("(+@all ~* &*)").is_unrestricted());
}

#[test]
fn channels_match_by_pattern_and_patterns_by_name() {
    let u = user("+@all &news.* &x");
    assert_eq!(refused(&u, "publish news.1 m"), None);
    assert_eq!(refused(&u, "psubscribe news.* x"), None);
    assert_eq!(refused(&u, "publish other m"), Some((Reason::Channel, 1)));
    assert_eq!(refused(&u, "psubscribe x news.1"), Some((Reason::Channel, 2)));
}

#[test]
fn subcommands_and_first_arguments() {
    let u = user("+config|get +select|0");
    assert_eq!(refused(&u, "config get x"), None);
    assert_eq!(refused(&u, "config set x y"), Some((Reason::Command, 0)));
    assert_eq!(refused(&u, "select 0"), None);
    assert_eq!(refused(&u, "select 1"), Some((Reason::Command, 0)));
    assert_eq!(refused(&user("+@all -config|set ~*"), "config get x"), None);
    let rules = |rules: &[&str]| {
        let words: Vec<&[u8]> = rules.iter().map(|r| r.as_bytes()).collect();
        acl().changed_user(b"u", &words, false).map(|u| u.selectors()[0].commands_text())
    };
    assert_eq!(rules(&["+config|get", "+@all", "-config|set"]).unwrap(), "+@all -config|set");
    assert_eq!(rules(&["+CONFIG|get", "+config", "-config|set", "+config"]).unwrap(), "-@all +config");
    assert_eq!(rules(&["+@admin", "-@ADMIN", "+get"]).unwrap(), "-@all -@admin +get");
    let error = |rule: &str| match rules(&[rule]).unwrap_err() {
        RulesError::Rule(_, error) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(error("+config|get|x"), RuleError::FirstArgOfSubcommand);
    assert_eq!(error("+get|a|b"), RuleError::Unknown);
    assert_eq!(error("+config|nosuch"), RuleError::Unknown);
    assert_eq!(error("-config|nosuch"), RuleError::Unknown);
    assert_eq!(error("+@nosuch"), RuleError::Unknown);
    assert_eq!(error("+select|"), RuleError::Syntax);
    assert_eq!(error("%X~a"), RuleError::Syntax);
    assert_eq!(error("%~a"), RuleError::Syntax);
    assert_eq!(error("<x"), RuleError::NoSuchPassword);
    assert_eq!(error("#abc"), RuleError::Digest);
    assert_eq!(rules(&["(+get", "~x"]), Err(RulesError::Unmatched(b"(+get".to_vec())));
}

#[test]
fn what_is_shown_makes_the_same_user() {
    let mut acl = acl();
    for rules in [
        "on >secret +@all -config|set ~a %R~b &c",
        "off nopass allkeys allchannels +@read -type (+set %W~x &y) (+@all ~*)",
        "skip-sanitize-payload",
        "on >a >b >a <b reset >c",
    ] {
        let words: Vec<&[u8]> = rules.split(' ').map(str::as_bytes).collect();
        let user = acl.changed_user(b"u", &words, false).unwrap();
        acl.replace(user);
        let text = acl.lines().join(&b'\n');
        let users = acl.parse_file("f", &text, false).unwrap();
        assert_eq!(users, *acl.users(), "{}", String::from_utf8_lossy(&text));
        acl.remove(b"u");
    }
}

#[test]
fn files_tell_all_their_errors() {
    let acl = acl();
    let text = b"user a on\n\nnobody\nuser a off\nuser b +nosuch >p ~* ~x &x\nuser c (+get\n";
    let errors = acl.parse_file("f", text, false).unwrap_err();
    for part in [
        "f:3 should start with user keyword",
        "Duplicate user 'a' found on line 4",
        "f:5: Error in applying operation '+nosuch': Unknown command",
        "f:5: Adding a pattern after the *",
        "f:6: Unmatched parenthesis",
        "no change to the previously active ACL rules",
    ] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
}

#[test]
fn passwords() {
    let mut acl = acl();
    assert!(!acl.must_authenticate());
    let user = acl.default_with_password(b"one");
    acl.replace(user);
    assert!(acl.must_authenticate());
    assert!(acl.authenticate(b"default", b"one").is_some());
    assert!(acl.authenticate(b"default", b"two").is_none());
    assert!(acl.authenticate(b"nobody", b"one").is_none());
    let user = acl.changed_user(b"default", &[b">two", b"<one"], false).unwrap();
    acl.replace(user);
    assert!(acl.authenticate(b"default", b"two").is_some());
    let user = acl.changed_user(b"default", &[b"off"], false).unwrap();
    acl.replace(user);
    assert!(acl.authenticate(b"default", b"two").is_none());
}

#[test]
fn similar_refusals_are_counted_together() {
    let mut log = AclLog::default();
    let refusal = |object: &str| Refusal {
        reason: Reason::Key,
        context: Context::Multi,
        object: object.into(),
        user: b"u".to_vec(),
        client: Vec::new(),
    };
    for (object, at_ms) in [("a", 0), ("b", 1), ("a", 2), ("a", 70_000)] {
        log.add(refusal(object), at_ms, 3);
    }
    let shown: Vec<_> = log.iter().map(|e| (e.id, e.count, e.created_ms, e.updated_ms)).collect();
    assert_eq!(shown, [(2, 1, 70_000, 70_000), (0, 2, 0, 2), (1, 1, 1, 1)]);
    log.add(refusal("c"), 70_001, 1);
    assert_eq!(log.len(), 1);
    log.add(refusal("c"), 70_001, 0);
    assert!(log.is_empty());
}
