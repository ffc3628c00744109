//! The cluster's certificates, made anew for each cluster.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::Result;
use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::layout::{API_PORT, API_SERVICE_ADDRESS, BRIDGE_ADDRESS, Layout, NODE};

/// A client of the API server: file name, user, group.
const CLIENTS: [(&str, &str, &str); 6] = [
    ("admin", "admin", "system:masters"),
    ("kube-controller-manager", "system:kube-controller-manager", ""),
    ("kube-scheduler", "system:kube-scheduler", ""),
    ("kube-proxy", "system:kube-proxy", ""),
    ("kubelet", "system:node:localkube", "system:nodes"),
    ("kubelet-client", "kube-apiserver", "system:masters"),
];

type Authority = CertifiedIssuer<'static, KeyPair>;

/// Writes all certificates, keys and kubeconfigs.
pub(crate) fn make(layout: &Layout) -> Result<()> {
    fs::create_dir_all(layout.pki(""))?;
    let authority = authority()?;
    write(layout, "ca.crt", &authority.pem())?;
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        NODE,
        "127.0.0.1",
        BRIDGE_ADDRESS,
        API_SERVICE_ADDRESS,
    ];
    let (certificate, key) = leaf(&authority, &names, "kube-apiserver", "", ExtendedKeyUsagePurpose::ServerAuth)?;
    write(layout, "apiserver.crt", &certificate)?;
    write(layout, "apiserver.key", &key)?;
    for (file, user, group) in CLIENTS {
        let (certificate, key) = leaf(&authority, &[], user, group, ExtendedKeyUsagePurpose::ClientAuth)?;
        write(layout, &format!("{file}.crt"), &certificate)?;
        write(layout, &format!("{file}.key"), &key)?;
        write_private(&layout.kubeconfig(file), &kubeconfig(&authority.pem(), &certificate, &key))?;
    }
    // Signs the tokens of service accounts.
    let key = KeyPair::generate()?;
    write(layout, "service-accounts.pub", &key.public_key_pem())?;
    write(layout, "service-accounts.key", &key.serialize_pem())
}

fn authority() -> Result<Authority> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "localkube");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn leaf(
    authority: &Authority,
    names: &[&str],
    user: &str,
    group: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(String, String)> {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, user);
    if !group.is_empty() {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.insert_extended_key_usage(usage);
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, authority)?.pem(), key.serialize_pem()))
}

fn write(layout: &Layout, file: &str, text: &str) -> Result<()> {
    write_private(&layout.pki(file), text)
}

/// For its owner alone: nearly all of them hold keys.
fn write_private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

/// A kubeconfig that holds what it needs, so that it can be copied. JSON is YAML too.
fn kubeconfig(authority: &str, certificate: &str, key: &str) -> String {
    let server = format!("https://127.0.0.1:{API_PORT}");
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "localkube",
        "contexts": [{"name": "localkube", "context": {"cluster": "localkube", "user": "localkube"}}],
        "clusters": [{"name": "localkube", "cluster": {
            "server": server, "certificate-authority-data": STANDARD.encode(authority)}}],
        "users": [{"name": "localkube", "user": {
            "client-certificate-data": STANDARD.encode(certificate), "client-key-data": STANDARD.encode(key)}}],
    })
    .to_string()
}
