//! Where the servers keep their data, and as whom they run.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use crate::Tls;

/// Data of both servers. Below `/var/lib`, because servers that do not run as root cannot enter root's home.
const ROOT: &str = "/var/lib/chatcluster-tests";

/// Within a server's folder.
pub(crate) const PASSWORD_FILE: &str = "password";

/// The folder of all data.
pub(crate) fn root() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from(ROOT));
    }
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(PathBuf::from(home).join(".cache/chatcluster/services"))
}

/// Makes the folder of all data.
pub(crate) fn prepare(root: &Path) -> Result<()> {
    fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Waits until no one else starts or ends servers there; holds until dropped.
pub(crate) fn lock(root: &Path) -> Result<File> {
    prepare(root)?;
    let file = File::create(root.join("lock"))?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

/// The password kept in this folder, made up the first time: the servers listen where other machines may reach them.
pub(crate) fn password(folder: &Path) -> Result<String> {
    let file = folder.join(PASSWORD_FILE);
    if let Ok(password) = fs::read_to_string(&file) {
        return Ok(password);
    }
    let password = Uuid::new_v4().simple().to_string();
    fs::write(&file, &password).with_context(|| format!("cannot write {}", file.display()))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    Ok(password)
}

/// Makes sure that a name needs no quoting in any of the languages that it is put into.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    ensure!(!name.is_empty() && name.chars().all(plain), "'{name}' is no name: use letters, digits, - and _");
    Ok(())
}

/// Makes a folder that belongs to a server's user.
pub(crate) fn owned(folder: &Path, user: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    give(folder, user)
}

/// Makes a file a server's user's own.
pub(crate) fn give(path: &Path, user: &str) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        run(Command::new("chown").arg(format!("{user}:{user}")).arg(path))?;
    }
    Ok(())
}

/// Puts a server's certificate and key into its folder; tells where they are.
pub(crate) fn certify(folder: &Path, user: &str, tls: &Tls) -> Result<[String; 2]> {
    let put = |name: &str, content: &str| {
        let file = folder.join(name);
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        give(&file, user)?;
        anyhow::Ok(file.display().to_string())
    };
    Ok([put("server.crt", &tls.certificate)?, put("server.key", &tls.key)?])
}

/// Removes a folder with all that is in it, if it is there.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
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
    run_with_input(command, "")
}

/// The same, with something to read for the command.
pub(crate) fn run_with_input(command: &mut Command, input: &str) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().with_context(|| format!("cannot run {program}: run tests/setup/install services"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading says why in its own words.
        let _ = stdin.write_all(input.as_bytes());
    }
    let out = child.wait_with_output()?;
    if !out.status.success() {
        bail!("{program} failed: {}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_made_once_and_is_nobody_elses_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let first = password(folder.path()).unwrap();
        assert_eq!(first, password(folder.path()).unwrap());
        assert_eq!(fs::metadata(folder.path().join(PASSWORD_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn names_that_would_need_quoting_are_refused() {
        assert!(check_name("chat-db_1").is_ok());
        for name in ["", "a b", "a\"b", "a'b", "a/b"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
