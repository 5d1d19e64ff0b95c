//! The scripts of EVAL and SCRIPT LOAD, compiled once, found by their text or by their digest. Those that
//! only came with EVAL are few: the one used longest ago goes.

use super::flags::{ScriptFlags, of_script};
use crate::command::error::CmdError;
use crate::sys::defrag::Mover;
use crate::sys::lua::{Function, Role, Vm};
use crate::util::crc::sha1;
use foldhash::fast::RandomState;
use slab::Slab;
use std::collections::HashMap;
use std::sync::Arc;

/// Scripts that came with EVAL and are kept.
pub const EVAL_SCRIPTS_MAX: usize = 500;

/// A digest as 40 hex digits.
pub type Sha = [u8; 40];

/// A script of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptId(usize);

/// How a script came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// With EVAL: it may be dropped.
    Eval,
    /// With SCRIPT LOAD: it stays.
    Load,
}

/// Neighbours in the order of use.
#[derive(Clone, Copy, Debug, Default)]
struct Links {
    older: Option<usize>,
    newer: Option<usize>,
}

/// A script.
#[derive(Debug)]
pub struct Script {
    /// Its digest.
    pub sha: Sha,
    /// Its text.
    pub body: Arc<[u8]>,
    /// What it declares.
    pub flags: ScriptFlags,
    function: Function,
    /// Its place in the order of use, unless it stays.
    links: Option<Links>,
}

/// All scripts and their machine.
pub struct Cache {
    /// The machine.
    pub vm: Vm,
    scripts: Slab<Script>,
    by_body: HashMap<Arc<[u8]>, usize, RandomState>,
    by_sha: HashMap<Sha, usize, RandomState>,
    oldest: Option<usize>,
    newest: Option<usize>,
    /// Scripts that may be dropped.
    droppable: usize,
    body_bytes: usize,
    limit: usize,
    seed: u64,
}

impl Cache {
    /// An empty cache. Scripts may hold `limit` bytes; `seed` is that of their random numbers.
    pub fn new(limit: usize, seed: u64) -> Cache {
        Cache {
            vm: Vm::new(Role::Scripts, limit, seed),
            scripts: Slab::new(),
            by_body: HashMap::default(),
            by_sha: HashMap::default(),
            oldest: None,
            newest: None,
            droppable: 0,
            body_bytes: 0,
            limit,
            seed,
        }
    }

    /// Changes the bytes that scripts may hold; 0: any number.
    pub fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
        self.vm.set_limit(bytes);
    }

    /// Number of scripts.
    pub fn len(&self) -> usize {
        self.scripts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.scripts.is_empty()
    }

    /// Bytes of memory beside the machine's.
    pub fn memory_bytes(&self) -> usize {
        let entry = size_of::<Script>() + 2 * (size_of::<Sha>() + 2 * size_of::<usize>());
        self.body_bytes + self.scripts.capacity() * entry
    }

    /// A script that is there.
    #[inline]
    pub fn get(&self, id: ScriptId) -> &Script {
        &self.scripts[id.0]
    }

    /// The script with this text. No digest is computed.
    #[inline]
    pub fn find_body(&self, body: &[u8]) -> Option<ScriptId> {
        self.by_body.get(body).map(|id| ScriptId(*id))
    }

    /// The script with this digest, in either case.
    #[inline]
    pub fn find_sha(&self, sha: &[u8]) -> Option<ScriptId> {
        let mut key: Sha = sha.try_into().ok()?;
        key.make_ascii_lowercase();
        self.by_sha.get(&key).map(|id| ScriptId(*id))
    }

    /// Compiles a script that is not there. `dropped` is increased by the scripts that had to go for it.
    pub fn add(&mut self, body: &[u8], origin: Origin, dropped: &mut u64) -> Result<ScriptId, CmdError> {
        let (flags, head) = of_script(body)?;
        let function = self.vm.compile(c"@user_script", &body[head..]).map_err(|text| {
            CmdError::text([&b"ERR Error compiling script (new function): "[..], &text].concat())
        })?;
        while origin == Origin::Eval
            && self.droppable >= EVAL_SCRIPTS_MAX
            && let Some(oldest) = self.oldest
        {
            self.remove(oldest);
            *dropped += 1;
        }
        let (sha, body): (Sha, Arc<[u8]>) = (hex_sha(body), body.into());
        self.body_bytes += body.len();
        let id = self.scripts.insert(Script { sha, body: body.clone(), flags, function, links: None });
        self.by_body.insert(body, id);
        self.by_sha.insert(sha, id);
        if origin == Origin::Eval {
            self.link(id);
        }
        Ok(ScriptId(id))
    }

    /// Keeps a script for ever, however it came.
    pub fn keep(&mut self, id: ScriptId) {
        self.unlink(id.0);
    }

    /// Notes that a script is used.
    #[inline]
    pub fn touch(&mut self, id: ScriptId) {
        if self.newest != Some(id.0) && self.scripts[id.0].links.is_some() {
            self.unlink(id.0);
            self.link(id.0);
        }
    }

    /// Makes a script ready to run.
    #[inline]
    pub fn begin<'a>(
        &mut self,
        id: ScriptId,
        keys: impl ExactSizeIterator<Item = &'a [u8]>,
        args: impl ExactSizeIterator<Item = &'a [u8]>,
        watched: bool,
    ) {
        self.vm.begin(&self.scripts[id.0].function, keys, args, watched);
    }

    /// Moves the texts of some scripts for active defragmentation: copies them to better places. Texts are
    /// shared by counting, so whoever keeps an old one only keeps its memory. What the machine has compiled
    /// stays where it is. Gives the number to go on from; 0 is the start, none the end.
    pub fn relocate_some(&mut self, from: usize, mover: &mut Mover) -> Option<usize> {
        const SCRIPTS: usize = 32;
        for id in from..(from + SCRIPTS).min(self.scripts.capacity()) {
            let Some(script) = self.scripts.get_mut(id) else { continue };
            if !mover.wants(script.body.as_ptr()) {
                mover.misses += 1;
                continue;
            }
            let new: Arc<[u8]> = Arc::from(&*script.body);
            self.by_body.remove(&script.body);
            script.body = new.clone();
            self.by_body.insert(new, id);
            mover.note_rebuilt();
        }
        (from + SCRIPTS < self.scripts.capacity()).then_some(from + SCRIPTS)
    }

    /// Drops all scripts and the machine; what is to be freed, and its number of parts.
    pub fn flush(&mut self) -> (Box<dyn std::any::Any + Send>, usize) {
        self.seed = self.seed.wrapping_add(1);
        let old = std::mem::replace(self, Cache::new(self.limit, self.seed));
        let parts = old.len() + 1;
        (Box::new(old), parts)
    }

    fn remove(&mut self, id: usize) {
        self.unlink(id);
        let script = self.scripts.remove(id);
        self.by_body.remove(&script.body);
        self.by_sha.remove(&script.sha);
        self.body_bytes -= script.body.len();
        self.vm.forget(script.function);
    }

    /// Puts a script at the new end of the order.
    fn link(&mut self, id: usize) {
        self.scripts[id].links = Some(Links { older: self.newest, newer: None });
        match self.newest {
            Some(newest) => self.links(newest).newer = Some(id),
            None => self.oldest = Some(id),
        }
        self.newest = Some(id);
        self.droppable += 1;
    }

    fn unlink(&mut self, id: usize) {
        let Some(Links { older, newer }) = self.scripts[id].links.take() else { return };
        match older {
            Some(older) => self.links(older).newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.links(newer).older = older,
            None => self.newest = older,
        }
        self.droppable -= 1;
    }

    fn links(&mut self, id: usize) -> &mut Links {
        self.scripts[id].links.as_mut().expect("neighbours are in the order")
    }
}

fn hex_sha(body: &[u8]) -> Sha {
    let digest = sha1(body);
    let digit = |i: usize| b"0123456789abcdef"[usize::from(digest[i / 2] >> (4 * (1 - i % 2)) & 15)];
    std::array::from_fn(digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::defrag::Select;
    use crate::util::rng::Rng;

    #[test]
    fn scripts_are_found_and_dropped_in_the_order_of_use() {
        let seed = 11;
        let (mut rng, mut cache, mut dropped) = (Rng::from_seed(seed), Cache::new(0, 1), 0);
        // The model: bodies in the order of use, the newest last.
        let mut model: Vec<String> = Vec::new();
        let (mut mover, mut at) = (Mover::new(Select::Everything), 0);
        for round in 0..4000 {
            at = cache.relocate_some(at, &mut mover).unwrap_or(0);
            let body = format!("return {}", rng.below(700));
            match cache.find_body(body.as_bytes()) {
                Some(id) => {
                    assert!(model.contains(&body), "seed {seed} round {round}");
                    cache.touch(id);
                    model.retain(|other| *other != body);
                }
                None => {
                    assert!(!model.contains(&body), "seed {seed} round {round}");
                    cache.add(body.as_bytes(), Origin::Eval, &mut dropped).unwrap();
                    if model.len() == EVAL_SCRIPTS_MAX {
                        model.remove(0);
                    }
                }
            }
            model.push(body);
            assert_eq!(cache.len(), model.len());
        }
        let bytes: usize = model.iter().map(String::len).sum();
        assert_eq!(cache.body_bytes, bytes);
        let first = cache.find_body(model[0].as_bytes()).unwrap();
        cache.keep(first);
        for i in 1000..1600 {
            cache.add(format!("return {i}").as_bytes(), Origin::Eval, &mut dropped).unwrap();
        }
        assert_eq!(cache.find_body(model[0].as_bytes()), Some(first));
        assert_eq!(cache.len(), EVAL_SCRIPTS_MAX + 1);
        cache.flush();
        assert!(cache.is_empty());
    }

    #[test]
    fn digests_are_found_in_either_case() {
        let mut cache = Cache::new(0, 1);
        let id = cache.add(b"return 1", Origin::Load, &mut 0).unwrap();
        assert_eq!(cache.find_sha(b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB"), Some(id));
        assert_eq!(cache.find_sha(b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db"), Some(id));
        assert_eq!(cache.find_sha(b"e0e1"), None);
    }
}
