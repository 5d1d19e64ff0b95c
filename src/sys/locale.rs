//! The order of texts in a language, as the C library knows it. Knows no command. A `Collation` is a locale
//! of its own: nothing of the process is changed.

use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;

unsafe extern "C" {
    fn newlocale(mask: i32, name: *const c_char, base: *mut libc::c_void) -> *mut libc::c_void;
    fn freelocale(locale: *mut libc::c_void);
    fn strxfrm_l(to: *mut c_char, from: *const c_char, room: usize, locale: *mut libc::c_void) -> usize;
}

/// How texts are ordered.
pub struct Collation {
    locale: NonNull<libc::c_void>,
    bytewise: bool,
}

impl Collation {
    /// The order of a locale; an empty name means what the environment asks for. None if there is no such
    /// locale on this machine.
    pub fn named(name: &str) -> Option<Collation> {
        let c_name = CString::new(name).ok()?;
        // SAFETY: the name is a C string that lives through the call; a null base is allowed.
        let locale = unsafe { newlocale(libc::LC_COLLATE_MASK, c_name.as_ptr(), std::ptr::null_mut()) };
        let locale = NonNull::new(locale)?;
        let effective = if name.is_empty() { from_environment() } else { name.to_string() };
        let bytewise = matches!(effective.as_str(), "" | "C" | "POSIX" | "C.UTF-8" | "C.utf8");
        Some(Collation { locale, bytewise })
    }

    /// Whether the order is that of the bytes.
    pub fn is_bytewise(&self) -> bool {
        self.bytewise
    }

    /// Bytes that order as the text does. A text ends at its first zero byte, as in C.
    pub fn key(&self, text: &[u8]) -> Vec<u8> {
        let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
        let text = CString::new(&text[..end]).expect("it is cut at the first zero byte");
        let len = self.transform(&text, &mut []);
        let mut key = vec![0; len + 1];
        self.transform(&text, &mut key);
        key.truncate(len);
        key
    }

    fn transform(&self, text: &CStr, to: &mut [u8]) -> usize {
        let room = to.len();
        let to = if room == 0 { std::ptr::null_mut() } else { to.as_mut_ptr() };
        // SAFETY: `to` has room for `room` bytes (with no room it may be null), and the locale is alive.
        unsafe { strxfrm_l(to.cast(), text.as_ptr(), room, self.locale.as_ptr()) }
    }
}

impl Drop for Collation {
    fn drop(&mut self) {
        // SAFETY: the locale is ours and this is its last use.
        unsafe { freelocale(self.locale.as_ptr()) }
    }
}

/// The locale that the environment names for the order of texts.
fn from_environment() -> String {
    let names = ["LC_ALL", "LC_COLLATE", "LANG"];
    names.iter().filter_map(|name| std::env::var(name).ok()).find(|v| !v.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_locale_orders_by_bytes() {
        let c = Collation::named("C").unwrap();
        assert!(c.is_bytewise());
        assert!(c.key(b"B") < c.key(b"a"));
        assert_eq!(c.key(b"ab\0c"), c.key(b"ab"));
        assert!(Collation::named("").is_some());
        assert!(Collation::named("no_SUCH.locale").is_none());
        assert!(Collation::named("C\0").is_none());
    }

    #[test]
    fn a_language_orders_by_letters() {
        // Not every machine has one.
        let Some(english) = Collation::named("en_US.UTF-8") else { return };
        assert!(!english.is_bytewise());
        assert!(english.key(b"a") < english.key(b"B"));
    }
}
