//! Libraries of functions: loaded from source, which is what snapshots, dumps and the log carry.

use super::flags::{LibraryHead, ScriptFlags, of_library};
use super::run_alone;
use crate::command::error::CmdError;
use crate::rdb::{Compression, Fault, dump};
use crate::sys::lua::{Function, Registration, Returned, Role, Vm};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A name that cannot be a library's.
const BAD_NAME: CmdError = CmdError::new(
    "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one \
     character long",
);
/// The engine that there is.
const ENGINE: &[u8] = b"LUA";

/// A function.
#[derive(Debug)]
pub struct FunctionInfo {
    /// Its name.
    pub name: Vec<u8>,
    /// What it says of itself.
    pub description: Option<Vec<u8>>,
    /// What it declares.
    pub flags: ScriptFlags,
    callback: Function,
}

/// A library.
#[derive(Debug)]
pub struct Library {
    /// Its source, first line included.
    pub code: Arc<[u8]>,
    /// Its functions, in the order in which it registered them.
    pub functions: Vec<FunctionInfo>,
}

/// Libraries that are not in use yet, by name.
type Libraries = BTreeMap<Vec<u8>, Library>;

/// What FUNCTION RESTORE does with libraries that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// They stay; one of the same name is an error.
    Append,
    /// One of the same name is replaced.
    Replace,
    /// They go.
    Flush,
}

/// All libraries and their machine.
pub struct Functions {
    /// The machine.
    pub vm: Vm,
    libraries: Libraries,
    /// Library and place in it of a function, by its name in lower case.
    names: HashMap<Vec<u8>, (Vec<u8>, usize)>,
    limit: usize,
    seed: u64,
}

impl Functions {
    /// No libraries. Functions may hold `limit` bytes; `seed` is that of their random numbers.
    pub fn new(limit: usize, seed: u64) -> Functions {
        let vm = Vm::new(Role::Functions, limit, seed);
        Functions { vm, libraries: Libraries::new(), names: HashMap::new(), limit, seed }
    }

    /// Changes the bytes that functions may hold; 0: any number.
    pub fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
        self.vm.set_limit(bytes);
    }

    /// All libraries, by name.
    pub fn libraries(&self) -> impl Iterator<Item = (&[u8], &Library)> {
        self.libraries.iter().map(|(name, library)| (name.as_slice(), library))
    }

    /// Sources of all libraries: what a snapshot keeps of them.
    pub fn sources(&self) -> Vec<&[u8]> {
        self.libraries.values().map(|library| &*library.code).collect()
    }

    /// Number of libraries.
    pub fn len(&self) -> usize {
        self.libraries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.libraries.is_empty()
    }

    /// Number of functions.
    pub fn function_count(&self) -> usize {
        self.names.len()
    }

    /// Bytes of memory beside the machine's.
    pub fn memory_bytes(&self) -> usize {
        let of_function = |f: &FunctionInfo| {
            size_of::<FunctionInfo>() + 2 * f.name.len() + f.description.as_ref().map_or(0, Vec::len)
        };
        let of_library = |(name, library): (&Vec<u8>, &Library)| {
            size_of::<Library>()
                + 2 * name.len()
                + library.code.len()
                + library.functions.iter().map(of_function).sum::<usize>()
        };
        size_of::<Functions>() + self.libraries.iter().map(of_library).sum::<usize>()
    }

    /// A function by its name, in any case.
    pub fn find(&self, name: &[u8]) -> Option<&FunctionInfo> {
        let (library, place) = self.names.get(&name.to_ascii_lowercase())?;
        self.libraries.get(library)?.functions.get(*place)
    }

    /// Makes a function ready to run. False if there is none of this name.
    pub fn begin<'a>(
        &mut self,
        name: &[u8],
        keys: impl ExactSizeIterator<Item = &'a [u8]>,
        args: impl ExactSizeIterator<Item = &'a [u8]>,
        watched: bool,
    ) -> bool {
        let Some((library, place)) = self.names.get(&name.to_ascii_lowercase()) else { return false };
        let Some(function) = self.libraries.get(library).and_then(|l| l.functions.get(*place)) else {
            return false;
        };
        self.vm.begin(&function.callback, keys, args, watched);
        true
    }

    /// Loads a library; its name. `is_over` tells when its code has run too long. An error changes nothing.
    pub fn load(
        &mut self,
        code: &[u8],
        replace: Policy,
        is_over: impl FnMut() -> bool,
    ) -> Result<Vec<u8>, CmdError> {
        let head = read_head(code)?;
        if replace != Policy::Replace && self.libraries.contains_key(&head.name) {
            let text = [&b"ERR Library '"[..], &head.name, b"' already exists"].concat();
            return Err(CmdError::text(text));
        }
        let functions = self.run_code(&code[head.len..], is_over)?;
        let library = Library { code: code.into(), functions };
        self.join(BTreeMap::from([(head.name.clone(), library)]), Policy::Replace)?;
        Ok(head.name)
    }

    /// Compiles and runs a library's code: the functions it registers.
    fn run_code(
        &mut self,
        code: &[u8],
        is_over: impl FnMut() -> bool,
    ) -> Result<Vec<FunctionInfo>, CmdError> {
        let failed = |what: &[u8], why: &[u8]| CmdError::text([what, why].concat());
        let chunk = self
            .vm
            .compile(c"@user_function", code)
            .map_err(|text| failed(b"ERR Error compiling function: ", &text))?;
        self.vm.begin_load(&chunk);
        run_alone(&mut self.vm, "FUNCTION LOAD timeout", is_over);
        let returned = self.vm.returned();
        let registered = self.vm.end_load();
        self.vm.forget(chunk);
        let registering = &b"ERR Error registering functions: "[..];
        let error = match returned {
            Returned::Value | Returned::Error(_) if registered.is_empty() => {
                Some(CmdError::new("ERR No functions registered"))
            }
            Returned::Value | Returned::Error(_) => None,
            Returned::Raised(failure) => Some(failed(registering, &failure.text)),
            Returned::Broken(text) => Some(failed(registering, &[b"ERR ", text.as_slice()].concat())),
        };
        match error {
            None => Ok(registered.into_iter().map(FunctionInfo::new).collect()),
            Some(error) => {
                registered.into_iter().filter_map(|r| r.callback).for_each(|f| self.vm.forget(f));
                Err(error)
            }
        }
    }

    /// Adds libraries. Under [`Policy::Append`] a name that is taken is an error, as is under any policy a
    /// function's name that is taken by a library that stays; then nothing changes.
    fn join(&mut self, new: Libraries, policy: Policy) -> Result<(), CmdError> {
        let stays = |name: &Vec<u8>| policy == Policy::Append || !new.contains_key(name);
        let taken = new.keys().find(|name| policy == Policy::Append && self.libraries.contains_key(*name));
        let clash = || {
            let names = new.values().flat_map(|l| l.functions.iter().map(|f| &f.name));
            let is_taken = |name: &&Vec<u8>| {
                self.names.get(&name.to_ascii_lowercase()).is_some_and(|(library, _)| stays(library))
            };
            names.into_iter().find(is_taken)
        };
        let error = match taken {
            Some(name) => Some([&b"ERR Library "[..], name, b" already exists"].concat()),
            None => clash().map(|name| [&b"ERR Function "[..], name, b" already exists"].concat()),
        };
        if let Some(text) = error {
            self.drop_all(new);
            return Err(CmdError::text(text));
        }
        for (name, library) in new {
            self.delete(&name);
            for (place, function) in library.functions.iter().enumerate() {
                self.names.insert(function.name.to_ascii_lowercase(), (name.clone(), place));
            }
            self.libraries.insert(name, library);
        }
        Ok(())
    }

    fn drop_all(&mut self, libraries: Libraries) {
        let functions = libraries.into_values().flat_map(|library| library.functions);
        functions.for_each(|function| self.vm.forget(function.callback));
    }

    /// Removes a library. False if there is none of this name.
    pub fn delete(&mut self, name: &[u8]) -> bool {
        let Some(library) = self.libraries.remove(name) else { return false };
        for function in library.functions {
            self.names.remove(&function.name.to_ascii_lowercase());
            self.vm.forget(function.callback);
        }
        true
    }

    /// Drops all libraries and the machine; what is to be freed, and its number of parts.
    pub fn flush(&mut self) -> (Box<dyn std::any::Any + Send>, usize) {
        self.seed = self.seed.wrapping_add(1);
        let old = std::mem::replace(self, Functions::new(self.limit, self.seed));
        let parts = old.function_count() + 1;
        (Box::new(old), parts)
    }

    /// The payload of FUNCTION DUMP.
    pub fn dump(&self, compression: Compression) -> Vec<u8> {
        dump::dump_libraries(&self.sources(), compression)
    }

    /// Adds the libraries of a payload that was verified. An error changes nothing.
    pub fn restore(
        &mut self,
        payload: &[u8],
        policy: Policy,
        mut is_over: impl FnMut() -> bool,
    ) -> Result<(), CmdError> {
        let sources = dump::libraries(payload).map_err(|error| match error.fault {
            Fault::Refused(text) => CmdError::text(format!("ERR {text}")),
            _ => CmdError::new("ERR failed loading the given functions payload"),
        })?;
        if policy == Policy::Flush {
            let mut fresh = Functions::new(self.limit, self.seed);
            for source in &sources {
                fresh.load(source, Policy::Append, &mut is_over)?;
            }
            *self = fresh;
            return Ok(());
        }
        let mut new = Libraries::new();
        for source in sources {
            if let Err(error) = self.add_to(&mut new, source, &mut is_over) {
                self.drop_all(new);
                return Err(error);
            }
        }
        self.join(new, policy)
    }

    fn add_to(
        &mut self,
        libraries: &mut Libraries,
        source: Vec<u8>,
        is_over: impl FnMut() -> bool,
    ) -> Result<(), CmdError> {
        let head = read_head(&source)?;
        if libraries.contains_key(&head.name) {
            return Err(CmdError::text([&b"ERR Library '"[..], &head.name, b"' already exists"].concat()));
        }
        let functions = self.run_code(&source[head.len..], is_over)?;
        libraries.insert(head.name, Library { code: source.into(), functions });
        Ok(())
    }
}

impl FunctionInfo {
    fn new(registration: Registration) -> FunctionInfo {
        let flags = registration.flags.iter().filter_map(|name| ScriptFlags::by_name(name));
        FunctionInfo {
            name: registration.name,
            description: registration.description,
            flags: flags.fold(ScriptFlags::default(), ScriptFlags::with),
            callback: registration.callback.expect("a registered function has a callback"),
        }
    }
}

/// Reads and checks the first line of a library.
fn read_head(code: &[u8]) -> Result<LibraryHead, CmdError> {
    let head = of_library(code)?;
    let fits = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    if head.name.is_empty() || !head.name.iter().all(fits) {
        return Err(BAD_NAME);
    }
    if !head.engine.eq_ignore_ascii_case(ENGINE) {
        return Err(CmdError::text([&b"ERR Engine '"[..], &head.engine, b"' not found"].concat()));
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(functions: &mut Functions, name: &str, body: &str, policy: Policy) -> Result<(), String> {
        let code = format!("#!lua name={name}\n{body}");
        let loaded = functions.load(code.as_bytes(), policy, || false);
        loaded.map(|_| ()).map_err(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
    }

    const F: &str = "redis.register_function('f', function() return 1 end)";
    const G: &str = "redis.register_function('g', function() return 2 end)";

    fn names(functions: &Functions) -> Vec<String> {
        let shown = |(name, l): (&[u8], &Library)| {
            let names: Vec<_> = l.functions.iter().map(|f| String::from_utf8_lossy(&f.name)).collect();
            format!("{}: {}", String::from_utf8_lossy(name), names.join(" "))
        };
        functions.libraries().map(shown).collect()
    }

    #[test]
    fn libraries_are_loaded_whole_or_not() {
        let mut functions = Functions::new(0, 1);
        load(&mut functions, "a", F, Policy::Append).unwrap();
        let again = load(&mut functions, "a", G, Policy::Append).unwrap_err();
        assert_eq!(again, "ERR Library 'a' already exists");
        let clash = load(&mut functions, "b", &format!("{G} {F}"), Policy::Append).unwrap_err();
        assert_eq!(clash, "ERR Function f already exists");
        let bad = load(&mut functions, "a", &format!("{G} error('x')"), Policy::Replace).unwrap_err();
        assert!(bad.starts_with("ERR Error registering functions: "), "{bad}");
        assert_eq!(load(&mut functions, "b", "", Policy::Append).unwrap_err(), "ERR No functions registered");
        assert_eq!(names(&functions), ["a: f"]);
        load(&mut functions, "a", &format!("{F} {G}"), Policy::Replace).unwrap();
        assert_eq!(names(&functions), ["a: f g"]);
        assert!(functions.find(b"G").is_some());
        assert!(functions.delete(b"a") && !functions.delete(b"a"));
        assert_eq!((functions.len(), functions.function_count()), (0, 0));
    }

    #[test]
    fn a_library_that_runs_too_long_is_not_loaded() {
        let mut functions = Functions::new(0, 1);
        let mut looks = 0;
        let result = functions.load(b"#!lua name=a\nwhile true do end", Policy::Append, || {
            looks += 1;
            looks > 2
        });
        let error = result.unwrap_err();
        assert!(error.as_bytes().ends_with(b"FUNCTION LOAD timeout"));
    }

    #[test]
    fn dumps_come_back() {
        let mut functions = Functions::new(0, 1);
        load(&mut functions, "a", F, Policy::Append).unwrap();
        load(&mut functions, "b", G, Policy::Append).unwrap();
        let payload = functions.dump(Compression::Off);
        let taken = functions.restore(&payload, Policy::Append, || false).unwrap_err();
        assert_eq!(taken.as_bytes(), b"ERR Library a already exists");
        functions.delete(b"a");
        functions.delete(b"b");
        load(&mut functions, "c", G, Policy::Append).unwrap();
        let clash = functions.restore(&payload, Policy::Replace, || false).unwrap_err();
        assert_eq!(clash.as_bytes(), b"ERR Function g already exists");
        assert_eq!(names(&functions), ["c: g"]);
        functions.restore(&payload, Policy::Flush, || false).unwrap();
        assert_eq!(names(&functions), ["a: f", "b: g"]);
        functions.restore(&payload, Policy::Replace, || false).unwrap();
        assert_eq!(names(&functions), ["a: f", "b: g"]);
        let bad = functions.restore(b"\xf60123456789", Policy::Append, || false).unwrap_err();
        assert_eq!(bad.as_bytes(), b"ERR Pre-GA function format not supported");
        for cut in 1..payload.len() - 1 {
            let _ = functions.restore(&payload[..cut], Policy::Replace, || false);
        }
        assert_eq!(names(&functions), ["a: f", "b: g"]);
    }
}
