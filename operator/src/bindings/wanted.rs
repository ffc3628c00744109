//! What a user asks for: the four forms, reduced to what a binding depends on.

use crds::{
    ChatCluster,
    binding::{CA_KEY, Service},
    chatcluster::{
        CaReference, ClusterReference, PostgresBinding, RabbitmqBinding, RedisBinding, SecretReference,
        ServiceReference,
    },
};
use kube::{ResourceExt, api::DynamicObject};

use super::foreign::{Foreign, text};
use crate::names;

/// A binding that is asked for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// What it leads to.
    pub(super) service: Service,
    /// Where it is in the spec.
    pub(super) field: &'static str,
    /// Who has the credentials.
    pub(super) form: Form,
    /// The certificate authority that the user names.
    ca: Option<CaReference>,
}

/// Who has the credentials.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// A Secret.
    Secret(String),
    /// The object of an operator that is known: its Secrets have known names.
    Known(Foreign),
    /// Any Provisioned Service.
    Provisioned(Foreign),
    /// No form was given, which only an object older than the schema's rules can do.
    Missing,
}

/// Where credentials and certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// The Secret with the credentials.
    pub(super) secret: String,
    /// Secret and key of the certificate authority, when it is not in the same Secret.
    pub(super) ca: Option<CaReference>,
}

impl Wanted {
    /// The bindings of a cluster.
    pub(super) fn of(cluster: &ChatCluster) -> [Option<Wanted>; 3] {
        let name = cluster.name_any();
        let postgres = cluster.spec.postgres.as_ref().map(|binding| postgres(binding, &name));
        let rabbitmq = cluster.spec.rabbitmq.as_ref().map(|binding| rabbitmq(binding, &name));
        [postgres, rabbitmq, cluster.spec.redis.as_ref().map(redis)]
    }

    /// The object that it depends on.
    pub(super) fn foreign(&self) -> Option<&Foreign> {
        match &self.form {
            Form::Known(object) | Form::Provisioned(object) => Some(object),
            Form::Secret(_) | Form::Missing => None,
        }
    }

    /// Where a Secret says it is; `object` is what [`Self::foreign`] names.
    pub(super) fn source(&self, object: Option<&DynamicObject>) -> Option<Source> {
        let named = |ca: Option<CaReference>| self.ca.clone().or(ca);
        let told = |object: &DynamicObject| text(object, "/status/binding/name").map(str::to_owned);
        match (&self.form, object) {
            (Form::Secret(name), _) => Some(Source { secret: name.clone(), ca: named(None) }),
            (Form::Provisioned(_), Some(object)) => Some(Source { secret: told(object)?, ca: named(None) }),
            (Form::Known(Foreign { name, .. }), Some(object)) if self.service == Service::Postgres => {
                // https://cloudnative-pg.io/documentation/1.28/applications/#secrets, and status.certificates for an own authority
                let ca = text(object, "/status/certificates/serverCASecret");
                let ca = ca.map_or_else(|| format!("{name}-ca"), str::to_owned);
                Some(Source { secret: format!("{name}-app"), ca: named(Some(reference(ca))) })
            }
            (Form::Known(Foreign { name, .. }), Some(object)) => {
                // https://www.rabbitmq.com/kubernetes/operator/using-operator#service-availability
                let secret = told(object).unwrap_or_else(|| format!("{name}-default-user"));
                let ca = text(object, "/spec/tls/secretName").map(|secret| reference(secret.to_owned()));
                Some(Source { secret, ca: named(ca) })
            }
            (Form::Missing | Form::Known(_) | Form::Provisioned(_), _) => None,
        }
    }
}

fn reference(name: String) -> CaReference {
    CaReference { name, key: CA_KEY.into() }
}

fn postgres(binding: &PostgresBinding, cluster: &str) -> Wanted {
    let managed = binding.managed.as_ref().map(|_| names::managed_postgres(cluster));
    let form = form(&binding.secret, &binding.cluster, &binding.service_binding, managed, Foreign::postgres);
    Wanted { service: Service::Postgres, field: "spec.postgres", form, ca: binding.ca.clone() }
}

fn rabbitmq(binding: &RabbitmqBinding, cluster: &str) -> Wanted {
    let managed = binding.managed.as_ref().map(|_| names::managed_rabbitmq(cluster));
    let form = form(&binding.secret, &binding.cluster, &binding.service_binding, managed, Foreign::rabbitmq);
    Wanted { service: Service::Rabbitmq, field: "spec.rabbitmq", form, ca: binding.ca.clone() }
}

fn redis(RedisBinding { secret, ca }: &RedisBinding) -> Wanted {
    let form = Form::Secret(secret.name.clone());
    Wanted { service: Service::Redis, field: "spec.redis", form, ca: ca.clone() }
}

fn form(
    secret: &Option<SecretReference>,
    cluster: &Option<ClusterReference>,
    service: &Option<ServiceReference>,
    managed: Option<String>,
    known: fn(&str) -> Foreign,
) -> Form {
    if let Some(secret) = secret {
        Form::Secret(secret.name.clone())
    } else if let Some(name) = cluster.as_ref().map(|cluster| cluster.name.clone()).or(managed) {
        Form::Known(known(&name))
    } else if let Some(ServiceReference { api_version, kind, name }) = service.clone() {
        Form::Provisioned(Foreign { api_version, kind, name })
    } else {
        Form::Missing
    }
}
