//! What a token allows: a role, and scopes that narrow it.

use serde_json::{Map, Value};

/// What a user is to the whole service. Roles within a room are the room's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Chats.
    #[default]
    Member,
    /// Makes bots and announcements.
    Admin,
}

/// One thing that a narrowed token may allow. Reading is allowed to every token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Say something in rooms.
    Send,
    /// Make, enter and leave rooms.
    Rooms,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Scope; 2] = [Scope::Send, Scope::Rooms];

    /// The scope as it stands in the `scope` claim (RFC 8693 §4.2).
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Send => "chat:send",
            Scope::Rooms => "chat:rooms",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The user's role.
    pub role: Role,
    scopes: u8,
}

impl Default for Rights {
    /// A member with every scope.
    fn default() -> Self {
        Rights { role: Role::Member, scopes: u8::MAX }
    }
}

impl Rights {
    /// A member that may do nothing but read.
    #[cfg(test)]
    pub(crate) fn reading() -> Self {
        Rights { role: Role::Member, scopes: 0 }
    }

    /// Whether the token allows it.
    pub fn allows(self, scope: Scope) -> bool {
        self.scopes & scope.bit() != 0
    }

    /// Whether scopes narrow the token, be it to all that there are.
    pub fn is_narrowed(self) -> bool {
        self.scopes != u8::MAX
    }

    /// Reads them from a token's payload. A token without a `chat:` scope is not narrowed: the scopes of an OpenID provider
    /// (`openid profile`) speak of other things. Of several roles the highest counts; unknown ones are other services' business.
    pub(super) fn of(payload: &Map<String, Value>, roles_claim: &str, is_admin: bool) -> Self {
        let words = |value: Option<&Value>| -> Vec<String> {
            match value {
                Some(Value::String(words)) => words.split(' ').map(str::to_owned).collect(),
                Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                _ => Vec::new(),
            }
        };
        let named = words(lookup(payload, roles_claim));
        let roles = named.iter().map(|role| match role.as_str() {
            "admin" => Role::Admin,
            _ => Role::Member,
        });
        let role = if is_admin { Role::Admin } else { roles.max().unwrap_or_default() };
        let ours: Vec<String> =
            words(payload.get("scope")).into_iter().filter(|scope| scope.starts_with("chat:")).collect();
        if ours.is_empty() {
            return Rights { role, ..Rights::default() };
        }
        let given = Scope::ALL.into_iter().filter(|scope| ours.iter().any(|word| word == scope.as_str()));
        Rights { role, scopes: given.fold(0, |bits, scope| bits | scope.bit()) }
    }
}

/// A claim by its name, or by a path with dots into objects.
fn lookup<'p>(payload: &'p Map<String, Value>, path: &str) -> Option<&'p Value> {
    payload.get(path).or_else(|| {
        let (first, rest) = path.split_once('.')?;
        lookup(payload.get(first)?.as_object()?, rest)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(claims: Value, path: &str, role: Role, scopes: &[Scope]) {
        let rights = Rights::of(claims.as_object().unwrap(), path, false);
        assert_eq!(rights.role, role);
        for scope in Scope::ALL {
            assert_eq!(rights.allows(scope), scopes.contains(&scope), "{scope:?}");
        }
    }

    #[test]
    fn the_highest_role_counts_wherever_it_stands() {
        let all = Scope::ALL;
        check(json!({}), "roles", Role::Member, &all);
        check(json!({"roles": ["dba", "moderator"]}), "roles", Role::Member, &all);
        check(json!({"roles": ["dba", "admin"]}), "roles", Role::Admin, &all);
        check(json!({"roles": "admin"}), "roles", Role::Admin, &all);
        check(json!({"realm_access": {"roles": ["admin"]}}), "realm_access.roles", Role::Admin, &all);
        check(json!({"https://a.b/roles": ["admin"]}), "https://a.b/roles", Role::Admin, &all);
        check(json!({"roles": {"admin": true}}), "roles", Role::Member, &all);
        check(json!({"realm_access": ["admin"]}), "realm_access.roles", Role::Member, &all);
        assert_eq!(Rights::of(&Map::new(), "roles", true).role, Role::Admin);
    }

    #[test]
    fn scopes_of_ours_narrow_and_others_do_not() {
        check(json!({"scope": "openid profile"}), "roles", Role::Member, &Scope::ALL);
        check(json!({"scope": "openid chat:send"}), "roles", Role::Member, &[Scope::Send]);
        check(json!({"scope": ["chat:send", "chat:rooms"]}), "roles", Role::Member, &[Scope::Send, Scope::Rooms]);
        check(json!({"scope": "chat:dance"}), "roles", Role::Member, &[]);
    }
}
