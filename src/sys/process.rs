//! This process as the system sees it: memory, processor time, limits, title, becoming a daemon. INFO and
//! the start-up sequence come here; what they do with the numbers is theirs.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

/// The process id.
pub fn pid() -> u32 {
    std::process::id()
}

/// Bytes per page of memory.
pub fn page_size() -> u64 {
    // SAFETY: a pure query.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Bytes of physical memory this process uses (resident set); 0 when the system does not tell.
pub fn rss_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<u64> = statm.split(' ').nth(1).and_then(|field| field.parse().ok());
    pages.unwrap_or(0) * page_size()
}

/// Bytes in pages that this process has written and shares with no other: in a forked child the memory that
/// copy-on-write has cost so far. Takes time in proportion to the mapped memory; 0 when unknown.
pub fn private_dirty_bytes() -> u64 {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    kib_field(&rollup, "Private_Dirty:")
}

/// Bytes of physical memory of the machine; 0 when unknown.
pub fn total_system_memory() -> u64 {
    // SAFETY: a pure query.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    u64::try_from(pages).unwrap_or(0) * page_size()
}

/// The value of a `Name:  123 kB` line of a /proc file, in bytes.
fn kib_field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).and_then(|field| field.parse().ok());
    kib.unwrap_or(0u64) * 1024
}

/// Processor time used so far, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// All threads, in the program.
    pub user_us: u64,
    /// All threads, in the kernel.
    pub sys_us: u64,
    /// Children that have ended and were waited for, in the program.
    pub children_user_us: u64,
    /// Children that have ended and were waited for, in the kernel.
    pub children_sys_us: u64,
    /// The calling thread, in the program.
    pub thread_user_us: u64,
    /// The calling thread, in the kernel.
    pub thread_sys_us: u64,
}

/// Processor time of the process, its children and the calling thread.
pub fn cpu_usage() -> CpuUsage {
    let (user_us, sys_us) = usage_of(libc::RUSAGE_SELF);
    let (children_user_us, children_sys_us) = usage_of(libc::RUSAGE_CHILDREN);
    let (thread_user_us, thread_sys_us) = usage_of(libc::RUSAGE_THREAD);
    CpuUsage { user_us, sys_us, children_user_us, children_sys_us, thread_user_us, thread_sys_us }
}

fn usage_of(who: libc::c_int) -> (u64, u64) {
    // SAFETY: all-zero is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: writes to `usage` only.
    unsafe { libc::getrusage(who, &mut usage) };
    let us = |time: libc::timeval| (time.tv_sec * 1_000_000 + time.tv_usec) as u64;
    (us(usage.ru_utime), us(usage.ru_stime))
}

/// Raises the limit of open files to `wanted`, or as near to it as the system lets us. Gives the limit that
/// now holds; never lowers it.
pub fn raise_open_files(wanted: u64) -> u64 {
    let Some(limit) = open_files_limit() else {
        return 1024;
    };
    if limit.rlim_cur >= wanted {
        return limit.rlim_cur;
    }
    // Root may also raise the hard limit; others get as far as that goes.
    for hard in [limit.rlim_max.max(wanted), limit.rlim_max] {
        let new = libc::rlimit { rlim_cur: wanted.min(hard), rlim_max: hard };
        // SAFETY: reads `new` only.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &new) } == 0 {
            return new.rlim_cur;
        }
    }
    limit.rlim_cur
}

fn open_files_limit() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes to `limit` only.
    (unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0).then_some(limit)
}

/// Where the kernel finds the command line that `ps` shows: our arguments and the environment behind them.
#[derive(Clone, Copy)]
struct TitleArea {
    start: usize,
    length: usize,
}

static TITLE_AREA: OnceLock<Option<TitleArea>> = OnceLock::new();

/// Makes room for [`set_title`]: moves the environment's strings elsewhere. To be called once at the start
/// of `main`, before other threads run and after the arguments were read.
pub fn prepare_title() {
    TITLE_AREA.get_or_init(|| {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // Fields 48 to 51 of proc(5): arg_start, arg_end, env_start, env_end. Field 2, the name in
        // parentheses, may hold spaces, so counting starts behind it.
        let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
        let address = |field: usize| fields.get(field - 3)?.parse::<usize>().ok();
        let (start, arg_end, env_start, env_end) = (address(48)?, address(49)?, address(50)?, address(51)?);
        if start == 0 || arg_end <= start || env_start != arg_end || env_end < env_start {
            return None;
        }
        move_environment(env_start, env_end)?;
        Some(TitleArea { start, length: env_end - start })
    });
}

unsafe extern "C" {
    static mut environ: *mut *mut libc::c_char;
}

/// Copies those strings of the environment that lie in the area to the heap (for good).
fn move_environment(area_start: usize, area_end: usize) -> Option<()> {
    // SAFETY: single-threaded by the contract of `prepare_title`; `environ` is a list of C strings that ends
    // with null, and replacing an element by a copy keeps it that.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            if (area_start..area_end).contains(&(*entry).addr()) {
                let copy = libc::strdup(*entry);
                if copy.is_null() {
                    return None;
                }
                *entry = copy;
            }
            entry = entry.add(1);
        }
    }
    Some(())
}

/// Sets the title that `ps` and `top` show, cut to the room there is. Does nothing but name the thread when
/// [`prepare_title`] was not called. Must not run while another thread reads `std::env::args`.
pub fn set_title(title: &str) {
    if let Some(Some(area)) = TITLE_AREA.get() {
        let length = title.len().min(area.length - 1);
        let start = std::ptr::with_exposed_provenance_mut::<u8>(area.start);
        // SAFETY: the kernel placed this writable area on our stack for arguments and environment; nothing
        // but the (now copied) environment and the arguments pointed into it.
        unsafe {
            start.write_bytes(0, area.length);
            start.copy_from_nonoverlapping(title.as_ptr(), length);
        }
    }
}

/// Becomes a daemon: the parent ends with status 0, the child leads a session of its own with standard
/// streams on /dev/null. Before any other thread is started.
pub fn daemonize() -> io::Result<()> {
    // SAFETY: no other thread runs, so the child may go on as usual.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {}
        // SAFETY: ends the process without running exit handlers, which are the child's.
        _ => unsafe { libc::_exit(0) },
    }
    // SAFETY: no memory is involved.
    unsafe { libc::setsid() };
    let null = fs::File::options().read(true).write(true).open("/dev/null")?;
    for stream in 0..=2 {
        // SAFETY: both are open descriptors (or dup2 opens the second).
        unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&null), stream) };
    }
    Ok(())
}

/// Writes our process id and a line end to `path`.
pub fn write_pidfile(path: &Path) -> io::Result<()> {
    fs::write(path, format!("{}\n", pid()))
}

/// Removes the pid file; a missing one is fine.
pub fn remove_pidfile(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Binds the calling thread (and threads it starts later) to processors: `0,2,4-8:2` is 0, 2, 4, 6 and 8.
/// An empty list changes nothing.
pub fn set_cpu_list(list: &str) -> io::Result<()> {
    let cpus = parse_cpu_list(list)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("bad cpu list {list:?}")))?;
    if cpus.is_empty() {
        return Ok(());
    }
    // SAFETY: all-zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus {
        // SAFETY: the parser admits only numbers below the size of the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: reads `set` only.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) })
}

/// Processors of a list (`n`, `a-b`, `a-b:step`, separated by commas); None when it is malformed.
pub fn parse_cpu_list(list: &str) -> Option<Vec<usize>> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|cpu: &usize| digits && *cpu < libc::CPU_SETSIZE as usize)
    };
    let mut cpus = Vec::new();
    for part in list.split(',').map(str::trim) {
        if part.is_empty() {
            continue;
        }
        let (range, step) = part.split_once(':').unwrap_or((part, "1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last, step) = (number(first)?, number(last)?, number(step)?);
        if first > last || step == 0 {
            return None;
        }
        cpus.extend((first..=last).step_by(step));
    }
    Some(cpus)
}

/// How willingly the kernel kills this process when memory runs out: -1000 (never) to 1000.
pub fn set_oom_score_adj(score: i32) -> io::Result<()> {
    fs::write("/proc/self/oom_score_adj", score.to_string())
}

/// The present value of what [`set_oom_score_adj`] sets.
pub fn oom_score_adj() -> Option<i32> {
    fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok()
}

/// Lets the calling thread step back behind the others of this process.
pub fn lower_own_priority() {
    const NICE: i32 = 10;
    // SAFETY: no memory is involved. To Linux, 0 is the calling thread here. A refusal changes nothing.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// Forbids huge pages for this process: a snapshot's child would copy 2 MiB for every byte written.
pub fn disable_thp() -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) })
}

/// Sets which permission bits new files do not get; gives the mask that held before.
pub fn set_umask(mask: u32) -> u32 {
    // SAFETY: no memory is involved; it cannot fail.
    unsafe { libc::umask(mask as libc::mode_t) as u32 }
}

/// Kernel and machine as INFO `os` shows them: `Linux 6.1.0-18-amd64 x86_64`.
pub fn uname() -> String {
    // SAFETY: all-zero is a valid `utsname`.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: writes to `names` only.
    unsafe { libc::uname(&mut names) };
    let text = |field: &[libc::c_char]| {
        let bytes = field.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8).collect();
        String::from_utf8(bytes).unwrap_or_default()
    };
    format!("{} {} {}", text(&names.sysname), text(&names.release), text(&names.machine))
}

/// The machine's name; empty when it has none.
pub fn hostname() -> String {
    let mut name = [0u8; 256];
    // SAFETY: writes at most the length that is named.
    unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(0);
    String::from_utf8_lossy(&name[..length]).into_owned()
}

/// The name that the process was started by (its first argument), as process titles show it.
pub fn called_as() -> String {
    std::env::args_os().next().map_or_else(|| "aikv".into(), |name| name.to_string_lossy().into_owned())
}

/// Absolute path of the running program; empty when unknown.
pub fn executable() -> String {
    std::env::current_exe().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Changes the working directory (CONFIG SET dir).
pub fn chdir(path: &Path) -> io::Result<()> {
    std::env::set_current_dir(path)
}

/// Room of the file system that holds a path, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Free for an ordinary user.
    pub free: u64,
    /// Size of the file system.
    pub total: u64,
}

/// Room of the file system that holds `path`, which must exist.
pub fn disk_free(path: &Path) -> io::Result<DiskSpace> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all-zero is a valid `statvfs`.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a terminated path; writes to `stat` only.
    check(unsafe { libc::statvfs(path.as_ptr(), &mut stat) })?;
    Ok(DiskSpace { free: stat.f_bavail * stat.f_frsize, total: stat.f_blocks * stat.f_frsize })
}

/// Fills a buffer with the system's random bytes: seeds, run ids, secrets.
///
/// # Panics
/// When the system has none to give; going on with predictable seeds would be worse.
pub fn os_random(bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: writes at most the length that is named.
        let count = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(count) {
            Ok(count) => filled += count,
            Err(_) => {
                let error = io::Error::last_os_error();
                assert!(error.kind() == io::ErrorKind::Interrupted, "getrandom failed: {error}");
            }
        }
    }
}

/// 64 of the system's random bits.
pub fn os_random_u64() -> u64 {
    let mut bytes = [0; 8];
    os_random(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// The error of a system call that gives -1 on failure.
pub(super) fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_plausible() {
        assert!(rss_bytes() > 1 << 20 && rss_bytes() < total_system_memory());
        assert!(private_dirty_bytes() > 0);
        let usage = cpu_usage();
        assert!(usage.user_us + usage.sys_us >= usage.thread_user_us);
        let space = disk_free(Path::new("/")).unwrap();
        assert!(space.free <= space.total && space.total > 0);
        assert!(disk_free(Path::new("/no/such/place")).is_err());
        assert!(uname().starts_with("Linux ") && !hostname().is_empty());
        assert!(executable().contains("aikv"));
        assert_ne!(os_random_u64(), os_random_u64());
        assert!(oom_score_adj().is_some());
    }

    #[test]
    fn proc_fields() {
        assert_eq!(kib_field("Rss: 10 kB\nPrivate_Dirty:      12 kB\n", "Private_Dirty:"), 12 * 1024);
        assert_eq!(kib_field("", "Private_Dirty:"), 0);
    }

    #[test]
    fn cpu_lists() {
        assert_eq!(parse_cpu_list("0,2,4-8:2"), Some(vec![0, 2, 4, 6, 8]));
        assert_eq!(parse_cpu_list("1-3"), Some(vec![1, 2, 3]));
        assert_eq!(parse_cpu_list(""), Some(vec![]));
        for bad in ["a", "1-", "-1", "3-1", "1-3:0", "1:2:3", "99999", "+1"] {
            assert_eq!(parse_cpu_list(bad), None, "{bad}");
        }
        assert!(set_cpu_list("x").is_err());
    }

    #[test]
    fn open_files_limit_is_never_lowered() {
        let before = open_files_limit().unwrap().rlim_cur;
        assert_eq!(raise_open_files(1), before);
        assert!(raise_open_files(before) >= before);
    }

    #[test]
    fn pidfiles() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aikv.pid");
        write_pidfile(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", pid()));
        remove_pidfile(&path).unwrap();
        remove_pidfile(&path).unwrap();
    }

    #[test]
    fn title_without_preparation_is_harmless() {
        set_title("aikv 127.0.0.1:6379");
    }
}
