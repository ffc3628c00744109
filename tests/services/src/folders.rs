//! Where the servers keep their data, and as whom they run.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// Data of both servers. Below `/var/lib`, because servers that do not run as root cannot enter root's home.
const ROOT: &str = "/var/lib/chatcluster-tests";

/// The folder of all data.
pub(crate) fn root() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from(ROOT));
    }
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(PathBuf::from(home).join(".cache/chatcluster/services"))
}

/// Makes the folder of all data.
pub(crate) fn prepare() -> Result<()> {
    let root = root()?;
    fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Makes a folder that belongs to a server's user.
pub(crate) fn owned(folder: &Path, user: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    if rustix::process::geteuid().is_root() {
        run(Command::new("chown").arg(format!("{user}:{user}")).arg(folder))?;
    }
    Ok(())
}

/// A command that runs as a server's user: neither server runs as root.
pub(crate) fn command_as(user: &str, program: impl AsRef<Path>) -> Command {
    let program = program.as_ref();
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--init-groups", "--reset-env", "--"]).arg(program);
    command
}

/// Runs a command to its end; its output goes into the error when it fails.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let out = command.output().with_context(|| format!("cannot run {program}: run tests/setup/install services"))?;
    if !out.status.success() {
        bail!("{program} failed: {}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
