//! What limits a process's memory besides the machine: control groups, its own and all around it, and what a shell's `ulimit` says.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that this process may still take under the tightest of its limits; none where there is no limit.
pub(super) fn free_under_limits() -> Option<u64> {
    let groups = groups(Path::new("/")).into_iter().filter_map(|group| group.free());
    groups.chain(of_process()).min()
}

/// A control group that a process is in, or one around that.
#[derive(Debug)]
enum Group {
    /// Of version 1.
    First(PathBuf),
    /// Of version 2.
    Second(PathBuf),
}

impl Group {
    /// What its limit leaves. Pages that only cache files are free.
    fn free(&self) -> Option<u64> {
        let (folder, limits, usage, cache, shared) = match self {
            Self::First(folder) => (
                folder,
                &["memory.limit_in_bytes"][..],
                "memory.usage_in_bytes",
                "total_cache",
                "total_shmem",
            ),
            Self::Second(folder) => {
                (folder, &["memory.max", "memory.high"][..], "memory.current", "file", "shmem")
            }
        };
        let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
        // Version 1 says that there is no limit by a number near the largest.
        let limit = limits.iter().filter_map(|name| number(name)).filter(|&limit| limit < 1 << 60).min()?;
        let statistics = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let counted = |name: &str| {
            let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<u64>().ok();
            statistics.lines().find_map(value).unwrap_or(0)
        };
        let reclaimable = counted(cache).saturating_sub(counted(shared));
        let used = number(usage).unwrap_or(0).saturating_sub(reclaimable);
        Some(limit.saturating_sub(used))
    }
}

/// The groups that count this process's memory, as the system whose files lie below `root` tells.
fn groups(root: &Path) -> Vec<Group> {
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
    let (own, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
    let mut groups = Vec::new();
    for mount in mounts.lines().filter_map(Mount::of) {
        let own = own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            let counts = match mount.is_second {
                true => controllers.is_empty(),
                false => controllers.split(',').any(|controller| controller == "memory"),
            };
            counts.then_some(path)
        });
        let Some(own) = own else { continue };
        let top = root.join(mount.place.trim_start_matches('/'));
        // A container may see its group under another name than it has outside.
        let below = Path::new(own).strip_prefix(mount.root).unwrap_or(Path::new(""));
        let is_there = |folder: &&Path| folder.is_dir();
        let lowest = top.join(below);
        let lowest = Some(lowest.as_path()).filter(is_there).unwrap_or(&top);
        let folders = lowest.ancestors().take_while(|folder| folder.starts_with(&top)).map(Path::to_owned);
        groups.extend(folders.map(if mount.is_second { Group::Second } else { Group::First }));
    }
    groups
}

/// Where a tree of groups that can count memory is seen.
struct Mount<'a> {
    /// The group that is its top.
    root: &'a str,
    place: &'a str,
    is_second: bool,
}

impl<'a> Mount<'a> {
    /// That of a line of `mountinfo`, if it is one.
    fn of(line: &'a str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, place) = (mount.next()?, mount.next()?);
        let mut system = system.split(' ');
        let (kind, options) = (system.next()?, system.nth(1).unwrap_or_default());
        let is_second = kind == "cgroup2";
        let counts = is_second || kind == "cgroup" && options.split(',').any(|option| option == "memory");
        counts.then_some(Self { root, place, is_second })
    }
}

/// What the process's own limits leave: of address space, which pages that are never touched take, too, and of data.
#[cfg(unix)]
fn of_process() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let used = |name: &str| {
            let kibibytes =
                |line: &str| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse::<u64>().ok();
            status.lines().find_map(kibibytes).unwrap_or(0) * 1024
        };
        let left = |resource, name| {
            let (limit, _) = getrlimit(resource).ok()?;
            (limit != RLIM_INFINITY).then(|| limit.saturating_sub(used(name)).saturating_sub(UNTOUCHED))
        };
        [left(Resource::RLIMIT_AS, "VmSize:"), left(Resource::RLIMIT_DATA, "VmData:")]
            .into_iter()
            .flatten()
            .min()
    }
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(not(unix))]
fn of_process() -> Option<u64> {
    None
}

/// What threads and allocators reserve and do not touch.
#[cfg(target_os = "linux")]
const UNTOUCHED: u64 = 384 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// A system's files below a folder.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn free(root: &tempfile::TempDir) -> Option<u64> {
        groups(root.path()).into_iter().filter_map(|group| group.free()).min()
    }

    const SECOND: (&str, &str) =
        ("proc/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n");

    #[test]
    fn the_tightest_of_the_groups_around_a_process_counts() {
        let group = |max: &'static str, outer: &'static str| {
            system(&[
                SECOND,
                ("proc/self/cgroup", "0::/user.slice/job\n"),
                ("sys/fs/cgroup/memory.stat", "file 0\n"),
                ("sys/fs/cgroup/user.slice/memory.max", outer),
                ("sys/fs/cgroup/user.slice/memory.current", "700\n"),
                ("sys/fs/cgroup/user.slice/job/memory.max", max),
                ("sys/fs/cgroup/user.slice/job/memory.current", "500\n"),
                ("sys/fs/cgroup/user.slice/job/memory.stat", "anon 100\nfile 400\nshmem 50\nfile_mapped 9\n"),
            ])
        };
        // 350 of the 500 bytes only cache files.
        assert_eq!(free(&group("1000\n", "max\n")), Some(850));
        assert_eq!(free(&group("max\n", "1000\n")), Some(300));
        assert_eq!(free(&group("1000\n", "1100\n")), Some(400));
        assert_eq!(free(&group("100\n", "max\n")), Some(0));
        assert_eq!(free(&group("max\n", "max\n")), None);
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_top() {
        let root = system(&[
            SECOND,
            ("proc/self/cgroup", "0::/../elsewhere\n"),
            ("sys/fs/cgroup/memory.max", "4096\n"),
            ("sys/fs/cgroup/memory.current", "96\n"),
        ]);
        assert_eq!(free(&root), Some(4000));
    }

    #[test]
    fn groups_of_version_1_count_too() {
        let mounts = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let root = system(&[
            ("proc/self/mountinfo", mounts),
            ("proc/self/cgroup", "4:memory:/docker/abc/job\n1:cpu:/\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "800\n"),
            ("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1000\n"),
            ("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "800\n"),
            ("sys/fs/cgroup/memory/job/memory.stat", "total_cache 300\ntotal_shmem 100\n"),
        ]);
        assert_eq!(free(&root), Some(400));
        assert!(groups(tempfile::tempdir().unwrap().path()).is_empty());
    }
}
