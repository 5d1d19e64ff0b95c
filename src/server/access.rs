//! Access control on the server: which user a client is, whether its commands may run, and what becomes of
//! clients whose user changes. Users and rules are in `acl/`, the commands in `commands/acl.rs`.

use super::Server;
use super::client::{Client, Close};
use super::commands::client_list::{Around, Running, push_line};
use super::gate::Reject;
use super::table::Command;
use crate::acl::{Context, Denied, Reason, Refusal, User, Users};
use crate::command::error::{self, CmdError};
use crate::config::AclPubsubDefault;
use crate::resp::Args;
use std::sync::Arc;

/// How much an error says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// It does not name keys and channels.
    Short,
    /// It does (ACL DRYRUN).
    Full,
}

/// What is told of a refused command, without a code.
pub(super) fn describe(
    user: &User,
    command: &Command,
    args: &Args<'_>,
    denied: Denied,
    detail: Detail,
) -> Vec<u8> {
    let kind = match denied.reason {
        Reason::Key => "key",
        Reason::Channel => "channel",
        Reason::Command | Reason::Auth => {
            let name = command.spec.name;
            let text = format!(" has no permissions to run the '{name}' command");
            return [b"User ", user.name.as_slice(), text.as_bytes()].concat();
        }
    };
    match detail {
        Detail::Short => format!("No permissions to access a {kind}").into_bytes(),
        Detail::Full => {
            let (user, name) = (user.name.as_slice(), args.get(denied.index));
            let behind = format!("' {kind}");
            [b"User ", user, b" has no permissions to access the '", name, behind.as_bytes()].concat()
        }
    }
}

/// The gate: a user may run only what its rules allow.
pub(super) fn permitted(
    server: &mut Server,
    client: &Client,
    command: &Command,
    args: &Args<'_>,
) -> Result<(), Reject> {
    let context = if client.multi.is_some() { Context::Multi } else { Context::Toplevel };
    match server.refused(client, command, args, context) {
        None => Ok(()),
        Some(denied) => {
            let user = client.user.as_ref().expect("only users are refused");
            let text = describe(user, command, args, denied, Detail::Short);
            Err(Reject::Error(CmdError::text([&b"NOPERM "[..], &text].concat())))
        }
    }
}

/// The same for a command of a transaction that is about to run: its user may have changed since.
pub(super) fn still_permitted(
    server: &mut Server,
    client: &Client,
    command: &Command,
    args: &Args<'_>,
) -> Result<(), Reject> {
    let Some(denied) = server.refused(client, command, args, Context::Multi) else { return Ok(()) };
    let reason = match denied.reason {
        Reason::Command => "no permission to execute the command or subcommand",
        Reason::Key => "no permission to touch the specified keys",
        Reason::Channel => "no permission to access one of the channels used as arguments",
        Reason::Auth => "no permission",
    };
    Err(Reject::Error(CmdError::text(format!(
        "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. \
         This command is no longer allowed for the following reason: {reason}"
    ))))
}

/// The same for a command of a script.
pub(super) fn permitted_in_script(
    server: &mut Server,
    client: &Client,
    command: &Command,
    args: &Args<'_>,
) -> Result<(), Reject> {
    let Some(denied) = server.refused(client, command, args, Context::Lua) else { return Ok(()) };
    let user = client.user.as_ref().expect("only users are refused");
    let text = describe(user, command, args, denied, Detail::Short);
    Err(Reject::Error(CmdError::text([&b"ERR ACL failure in script: "[..], &text].concat())))
}

impl Server {
    /// Asks the rules of a client's user about a command; a refusal is counted and logged.
    pub(super) fn refused(
        &mut self,
        client: &Client,
        command: &Command,
        args: &Args<'_>,
        context: Context,
    ) -> Option<Denied> {
        let user = client.user.as_ref()?;
        let denied = user.check(command.id, command.spec, args).err()?;
        let object = match denied.reason {
            Reason::Key | Reason::Channel => args.get(denied.index),
            Reason::Command | Reason::Auth => command.spec.name.as_bytes(),
        };
        let (object, user) = (object.to_vec(), user.name.clone());
        self.log_refusal(client, args, (denied.reason, context), object, user);
        Some(denied)
    }

    fn log_refusal(
        &mut self,
        client: &Client,
        args: &Args<'_>,
        (reason, context): (Reason, Context),
        object: Vec<u8>,
        user: Vec<u8>,
    ) {
        let counters = &mut self.stats.counters;
        *match reason {
            Reason::Command => &mut counters.denied_command,
            Reason::Key => &mut counters.denied_key,
            Reason::Channel => &mut counters.denied_channel,
            Reason::Auth => &mut counters.denied_auth,
        } += 1;
        let mut line = Vec::new();
        let running = Some(Running { argv_bytes: args.bytes() });
        let tracker = self.tracking.get(client.id);
        push_line(&mut line, client, Around { running, now_ms: self.now.mono_ms(), tracker });
        line.truncate(line.trim_ascii_end().len());
        let refusal = Refusal { reason, context, object, user, client: line };
        self.acl.log.add(refusal, self.now.wall_ms, self.config.acllog_max_len);
    }

    /// Whether a client may let a command read keys that are not among its arguments.
    pub(super) fn reads_any_key(&self, client: &Client, command: &Command, args: &Args<'_>) -> bool {
        client.user.as_ref().is_none_or(|user| user.reads_all_keys_in(command.id, command.spec, args))
    }

    // ---- who a client is ----

    /// Whether clients have to authenticate before they may do anything.
    pub(super) fn must_authenticate(&self) -> bool {
        self.acl.must_authenticate()
    }

    /// Makes a client the default user, as which it may or may not have to authenticate.
    pub(super) fn be_default_user(&self, client: &mut Client) {
        client.set_user(self.acl.default_user().clone());
        client.set_authenticated(!self.must_authenticate());
    }

    /// Checks a name and password. A refusal leaves the client as it was.
    pub(super) fn authenticate(
        &mut self,
        client: &mut Client,
        args: Args<'_>,
        (name, password): (&[u8], &[u8]),
    ) -> Result<(), CmdError> {
        if let Some(user) = self.acl.authenticate(name, password) {
            client.set_user(user.clone());
            client.set_authenticated(true);
            return Ok(());
        }
        let context = if client.multi.is_some() { Context::Multi } else { Context::Toplevel };
        self.log_refusal(client, &args, (Reason::Auth, context), args.get(0).to_vec(), name.to_vec());
        Err(error::WRONG_PASSWORD)
    }

    // ---- changes of users ----

    /// Whether new users and selectors may use all channels.
    pub(super) fn new_users_have_all_channels(&self) -> bool {
        self.config.acl_pubsub_default == AclPubsubDefault::Allchannels
    }

    /// Puts a changed user in its place: its clients get the new rules, and those go that are subscribed to
    /// what they may not hear any more. The running client is given if there is one.
    pub(super) fn change_user(&mut self, user: User, running: Option<&mut Client>) {
        let old = self.acl.user(&user.name).cloned();
        let new = self.acl.replace(user);
        let Some(old) = old else { return };
        let replaced = |name: &[u8]| (name == old.name.as_slice()).then(|| Some((old.clone(), new.clone())));
        self.refresh_users(running, &replaced);
    }

    /// Puts all users in the place of the present ones (ACL LOAD).
    pub(super) fn change_all_users(&mut self, users: Users, running: &mut Client) {
        let old = self.acl.users().clone();
        self.acl.replace_all(users);
        let new = self.acl.users().clone();
        let replaced = |name: &[u8]| {
            let old = old.get(name)?.clone();
            Some(new.get(name).map(|new| (old, new.clone())))
        };
        self.refresh_users(Some(running), &replaced);
    }

    /// Removes a user and closes its clients. False if there is none of this name.
    pub(super) fn remove_user(&mut self, name: &[u8], running: &mut Client) -> bool {
        if !self.acl.remove(name) {
            return false;
        }
        self.refresh_users(Some(running), &|of: &[u8]| (of == name).then_some(None));
        true
    }

    /// Gives clients their users' new rules. `replaced` says for the name of a user: nothing, if it is as it
    /// was; else what it was and is now, or that it is gone.
    fn refresh_users(&mut self, running: Option<&mut Client>, replaced: &Replaced<'_>) {
        if let Some(client) = running
            && self.refresh_user(client, replaced) == Kept::No
        {
            client.close = Some(Close::AfterReply);
        }
        for slot in self.clients.slots() {
            let Some(mut client) = self.clients.take(slot) else { continue };
            let kept = self.refresh_user(&mut client, replaced);
            self.clients.put(client);
            if kept == Kept::No {
                self.close_client(slot, Close::Now);
            }
        }
    }

    fn refresh_user(&mut self, client: &mut Client, replaced: &Replaced<'_>) -> Kept {
        let Some(user) = &client.user else { return Kept::Yes };
        match replaced(&user.name) {
            None => Kept::Yes,
            Some(Some((old, new))) => {
                let loses = client.subscriptions.as_ref().is_some_and(|s| old.loses_channels(&new, s));
                client.set_user(new);
                if loses { Kept::No } else { Kept::Yes }
            }
            Some(None) => {
                // Whatever it still does before it is closed, it does as somebody who may not.
                client.set_user(self.acl.default_user().clone());
                client.set_authenticated(false);
                Kept::No
            }
        }
    }

    /// Puts `requirepass` into effect: it is the password of the default user.
    pub(super) fn apply_password(&mut self, running: Option<&mut Client>) {
        let user = self.acl.default_with_password(self.config.requirepass.reveal().as_bytes());
        self.change_user(user, running);
    }

    /// The users of the configuration and of the ACL file, at start.
    pub(super) fn load_users(&mut self) -> Result<(), String> {
        if !self.config.requirepass.is_empty() {
            self.apply_password(None);
        }
        let all_channels = self.new_users_have_all_channels();
        if !self.config.aclfile.is_empty() && !self.config.users.is_empty() {
            return Err("users are defined both in the configuration and in an ACL file (aclfile): define \
                        them either there or here"
                .into());
        }
        let lines = self.config.users.clone();
        self.acl.add_configured(&lines, all_channels)?;
        if !self.config.aclfile.is_empty() {
            let users =
                self.read_acl_file().map_err(|e| format!("Aborting startup because of ACL errors: {e}"))?;
            self.acl.replace_all(users);
        }
        Ok(())
    }

    /// The users of the ACL file.
    pub(super) fn read_acl_file(&self) -> Result<Users, String> {
        let file = &self.config.aclfile;
        let text =
            std::fs::read(file).map_err(|e| format!("Error loading ACLs, opening file '{file}': {e}"))?;
        self.acl.parse_file(file, &text, self.new_users_have_all_channels())
    }

    /// The `user` lines that CONFIG REWRITE writes: none while the users are what the options make them.
    pub(super) fn user_lines(&self) -> Vec<String> {
        let unchanged = self.config.users.is_empty() && self.acl.users().len() == 1 && {
            let default = self.acl.default_user();
            let plain = self.acl.default_with_password(self.config.requirepass.reveal().as_bytes());
            default.is_unrestricted() && default.enabled && **default == plain
        };
        let line = |user: &Arc<User>| {
            let line = [user.name.as_slice(), b" ", &user.describe()].concat();
            String::from_utf8_lossy(&line).into_owned()
        };
        if unchanged { Vec::new() } else { self.acl.users().values().map(line).collect() }
    }
}

/// What became of a user: nothing, old and new rules, or its end.
type Replaced<'a> = dyn Fn(&[u8]) -> Option<Option<(Arc<User>, Arc<User>)>> + 'a;

/// Whether a client stays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Yes,
    No,
}
