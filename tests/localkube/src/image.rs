//! Images of one static binary: an archive as `docker save` writes it, made without Docker.
//!
//! The same binary gives the same bytes, so an image that is known need not be loaded again.

use std::{
    fs::{self, File},
    io::BufWriter,
    path::Path,
};

use anyhow::{Context, Result};
use ring::digest::{SHA256, digest};
use serde_json::json;
use tar::{Builder, EntryType, Header};

use crate::elf;

/// The user that an image's program runs as; nobody on the host.
const USER: &str = "65532:65532";

/// Writes the archive; tells its size in bytes.
pub(crate) fn build(name: &str, binary: &Path, output: &Path) -> Result<u64> {
    let program = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    elf::check_static(&program).with_context(|| format!("{} cannot be an image", binary.display()))?;
    let file_name = binary.file_name().and_then(|name| name.to_str()).context("the binary has no name")?;
    let layer = layer(file_name, &program)?;
    let layer_digest = hex(&layer);
    let config = serde_json::to_vec(&json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Entrypoint": [format!("/{file_name}")], "User": USER, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
    }))?;
    let (config_name, layer_name) = (format!("{}.json", hex(&config)), format!("{layer_digest}/layer.tar"));
    let manifest = serde_json::to_vec(&json!([
        {"Config": config_name, "RepoTags": [qualified(name)], "Layers": [layer_name]}
    ]))?;
    let mut archive = Builder::new(BufWriter::new(
        File::create(output).with_context(|| format!("cannot write {}", output.display()))?,
    ));
    for (path, data) in [(&config_name, &config), (&layer_name, &layer), (&"manifest.json".to_owned(), &manifest)] {
        append(&mut archive, path, data, 0o644)?;
    }
    archive.into_inner()?.into_inner().map_err(|error| error.into_error())?;
    Ok(fs::metadata(output)?.len())
}

/// The name as container runtimes complete it.
pub(crate) fn qualified(name: &str) -> String {
    match name.split_once('/') {
        None => format!("docker.io/library/{name}"),
        Some((registry, _)) if registry.contains(['.', ':']) => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
    }
}

/// The names that an archive brings, and a digest of its content.
pub(crate) fn inspect(archive: &Path) -> Result<(Vec<String>, String)> {
    let mut names = Vec::new();
    let mut content =
        tar::Archive::new(File::open(archive).with_context(|| format!("cannot read {}", archive.display()))?);
    for entry in content.entries()? {
        let entry = entry?;
        if entry.path()?.as_ref() == Path::new("manifest.json") {
            let manifest: Vec<serde_json::Value> = serde_json::from_reader(entry)?;
            let tags = manifest.iter().flat_map(|image| image["RepoTags"].as_array().into_iter().flatten());
            names.extend(tags.filter_map(|tag| tag.as_str()).map(str::to_owned));
        }
    }
    Ok((names, hex(&fs::read(archive)?)))
}

/// The one layer: the binary, and a folder for temporary files.
fn layer(file_name: &str, program: &[u8]) -> Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    let mut folder = header(0, 0o1777);
    folder.set_entry_type(EntryType::Directory);
    layer.append_data(&mut folder, "tmp/", std::io::empty())?;
    append(&mut layer, file_name, program, 0o755)?;
    Ok(layer.into_inner()?)
}

fn append<W: std::io::Write>(archive: &mut Builder<W>, path: &str, data: &[u8], mode: u32) -> Result<()> {
    archive.append_data(&mut header(data.len(), mode), path, data)?;
    Ok(())
}

fn header(size: usize, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(size as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    header
}

/// SHA-256 by `ring`, which is fast in a debug build too: images of the cluster's own have 80 MB.
fn hex(data: &[u8]) -> String {
    digest(&SHA256, data).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_binary_gives_the_same_archive_and_names_are_found_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("program");
        fs::write(&binary, elf::tests::program(&[])).unwrap();
        let [first, second] = ["a.tar", "b.tar"].map(|name| folder.path().join(name));
        build("chat-node:0.1.0", &binary, &first).unwrap();
        build("chat-node:0.1.0", &binary, &second).unwrap();
        assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
        assert_eq!(inspect(&first).unwrap().0, ["docker.io/library/chat-node:0.1.0"]);
    }
}
