//! What a cluster leaves in the system beyond files and processes: mounts, control groups, nftables tables, the bridge and the kernel's
//! settings. Finds by place, never by guess: only what lies below our folders or has our names.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use daemon::until;
use rustix::mount::{UnmountFlags, unmount};

/// The control group below which the kubelet puts all pods.
const PODS: &str = "kubepods";

/// How long the kernel may take to let go of a control group whose last process has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// Unmounts what is mounted below these folders, the latest first.
pub(crate) fn unmount_below(folders: &[&Path]) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mounts")?;
    for point in mounts_below(&table, folders) {
        unmount(&point, UnmountFlags::DETACH).with_context(|| format!("cannot unmount {}", point.display()))?;
    }
    Ok(())
}

fn mounts_below(table: &str, folders: &[&Path]) -> Vec<PathBuf> {
    let points = table.lines().rev().filter_map(|line| line.split(' ').nth(1));
    let points = points.map(|point| PathBuf::from(point.replace("\\040", " ")));
    points.filter(|point| folders.iter().any(|folder| point.starts_with(folder))).collect()
}

/// Removes the emptied control groups of pods: from each hierarchy of version 1, or the one of version 2.
pub(crate) fn remove_cgroups() -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    remove_cgroup(&root.join(PODS))?;
    for hierarchy in fs::read_dir(root)? {
        remove_cgroup(&hierarchy?.path().join(PODS))?;
    }
    Ok(())
}

fn remove_cgroup(group: &Path) -> Result<()> {
    // There is none where no pod has run, and none below a plain file.
    let Ok(entries) = fs::read_dir(group) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    until(PATIENCE, || (!group.exists() || fs::remove_dir(group).is_ok()).then_some(()))
        .with_context(|| format!("cannot remove {}: a process is left in it", group.display()))
}

/// Removes the tables that kube-proxy made; those of this name are no one else's, because two kube-proxies cannot share a machine.
pub(crate) fn remove_proxy_tables() {
    for family in ["ip", "ip6"] {
        // Fails where there is no such table, which is as well.
        let _ = Command::new("nft").args(["delete", "table", family, "kube-proxy"]).output();
    }
}

/// Sets a value of the kernel, and writes down in `record` what it was.
pub(crate) fn set_kernel(setting: &Path, value: &str, record: &Path) -> Result<()> {
    let before = fs::read_to_string(setting).with_context(|| format!("this kernel has no {}", setting.display()))?;
    if before.trim() != value {
        fs::create_dir_all(record.parent().unwrap_or(Path::new("/")))?;
        fs::write(record, before)?;
        fs::write(setting, value).with_context(|| format!("cannot set {}", setting.display()))?;
    }
    Ok(())
}

/// Sets the value back to what the record says, if there is one.
pub(crate) fn restore_kernel(setting: &Path, record: &Path) -> Result<()> {
    if let Ok(before) = fs::read_to_string(record) {
        fs::write(setting, before).with_context(|| format!("cannot set {}", setting.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_come_innermost_first_and_only_ours() {
        let table = "tmpfs /run/localkube/a tmpfs rw 0 0\n\
                     tmpfs /run/localkubes tmpfs rw 0 0\n\
                     tmpfs /run/localkube/a/with\\040space tmpfs rw 0 0\n";
        let ours = mounts_below(table, &[Path::new("/run/localkube")]);
        assert_eq!(ours, [Path::new("/run/localkube/a/with space"), Path::new("/run/localkube/a")]);
    }

    #[test]
    fn a_setting_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let [setting, record] = ["setting", "record"].map(|name| folder.path().join(name));
        fs::write(&setting, "0\n").unwrap();
        set_kernel(&setting, "1", &record).unwrap();
        assert_eq!(fs::read_to_string(&setting).unwrap(), "1");
        restore_kernel(&setting, &record).unwrap();
        assert_eq!(fs::read_to_string(&setting).unwrap(), "0\n");
    }
}
