//! The arguments of one request as ranges into the buffer they arrived in: nothing is allocated or
//! counted per argument. Knows nothing of how the buffer was filled.

use crate::collections::blob::Blob;

/// One argument: a range of the input buffer, or (start == [`Arg::BIG`]) an index into the list of
/// arguments that were read into buffers of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Offset of the first byte, or [`Arg::BIG`].
    pub start: u32,
    /// Length in bytes, or the index of the big argument.
    pub len: u32,
}

impl Arg {
    /// Marks an argument that lives in a [`Blob`] of its own.
    pub const BIG: u32 = u32::MAX;
}

/// The arguments of a request, the command's name first.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    buf: &'a [u8],
    args: &'a [Arg],
    big: &'a [Blob],
}

impl<'a> Args<'a> {
    /// Joins a buffer with the ranges that were found in it.
    pub fn new(buf: &'a [u8], args: &'a [Arg], big: &'a [Blob]) -> Self {
        Args { buf, args, big }
    }

    /// Number of arguments, the command's name included.
    #[inline]
    pub fn len(&self) -> usize {
        self.args.len()
    }

    /// Whether there is not even a name.
    pub fn is_empty(&self) -> bool {
        self.args.is_empty()
    }

    /// Argument `i`. Panics past the end: arity was checked before a command runs.
    #[inline]
    pub fn get(&self, i: usize) -> &'a [u8] {
        let arg = self.args[i];
        if arg.start == Arg::BIG {
            return self.big[arg.len as usize].as_slice();
        }
        &self.buf[arg.start as usize..arg.start as usize + arg.len as usize]
    }

    /// Argument `i`, or nothing past the end.
    pub fn try_get(&self, i: usize) -> Option<&'a [u8]> {
        (i < self.args.len()).then(|| self.get(i))
    }

    /// Argument `i` as the shared buffer it was read into, when it was long enough to get one.
    #[inline]
    pub fn blob(&self, i: usize) -> Option<&'a Blob> {
        let arg = self.args[i];
        (arg.start == Arg::BIG).then(|| &self.big[arg.len as usize])
    }

    /// All arguments in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        (0..self.args.len()).map(|i| self.get(i))
    }

    /// The arguments from `i` on (the view of a subcommand, or of a command inside another).
    pub fn skip(&self, i: usize) -> Args<'a> {
        Args { buf: self.buf, args: &self.args[i.min(self.args.len())..], big: self.big }
    }

    /// Bytes of all arguments together.
    pub fn bytes(&self) -> usize {
        self.iter().map(<[u8]>::len).sum()
    }

    /// A copy that outlives the input buffer (queued, blocked and propagated commands).
    pub fn to_owned(&self) -> OwnedArgs {
        let mut owned = OwnedArgs::default();
        owned.fill(self);
        owned
    }
}

impl std::ops::Index<usize> for Args<'_> {
    type Output = [u8];
    fn index(&self, i: usize) -> &[u8] {
        self.get(i)
    }
}

/// Arguments that own their bytes: one buffer for all, big ones shared.
#[derive(Clone, Default)]
pub struct OwnedArgs {
    buf: Vec<u8>,
    args: Vec<Arg>,
    big: Vec<Blob>,
}

impl OwnedArgs {
    /// Collects arguments from slices.
    pub fn from_slices(slices: &[&[u8]]) -> Self {
        let mut owned = OwnedArgs::default();
        slices.iter().for_each(|s| owned.push(s));
        owned
    }

    /// Forgets all arguments and keeps their memory.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.args.clear();
        self.big.clear();
    }

    /// Copies arguments, into the memory it has.
    pub fn fill(&mut self, args: &Args<'_>) {
        self.clear();
        let copied = args.args.iter().filter(|arg| arg.start != Arg::BIG);
        self.buf.reserve(copied.map(|arg| arg.len as usize).sum());
        self.args.reserve(args.len());
        (0..args.len()).for_each(|i| self.push_from(args, i));
    }

    /// Adds an argument by copy.
    pub fn push(&mut self, bytes: &[u8]) {
        let start = self.buf.len();
        if start + bytes.len() >= Arg::BIG as usize {
            return self.push_blob(Blob::from_slice(bytes));
        }
        self.buf.extend_from_slice(bytes);
        self.args.push(Arg { start: start as u32, len: bytes.len() as u32 });
    }

    /// Adds argument `i` of others; a long one is shared.
    pub fn push_from(&mut self, args: &Args<'_>, i: usize) {
        match args.blob(i) {
            Some(blob) => self.push_blob(blob.clone()),
            None => self.push(args.get(i)),
        }
    }

    /// Adds an argument that is already a shared buffer.
    pub fn push_blob(&mut self, blob: Blob) {
        self.args.push(Arg { start: Arg::BIG, len: self.big.len() as u32 });
        self.big.push(blob);
    }

    /// The view that commands take.
    pub fn as_args(&self) -> Args<'_> {
        Args::new(&self.buf, &self.args, &self.big)
    }

    /// Heap bytes held (for client memory accounting).
    pub fn memory_bytes(&self) -> usize {
        self.buf.capacity()
            + self.args.capacity() * size_of::<Arg>()
            + self.big.iter().map(Blob::len).sum::<usize>()
    }
}
