//! Pages of lists: how long they may be, and where the next one begins.

use serde::Deserialize;

/// Rows of a page, from 1 to [`Limit::MAX`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "usize")]
pub(super) struct Limit(usize);

impl Limit {
    const DEFAULT: usize = 50;
    const MAX: usize = 200;

    /// The rows of the page.
    pub(super) fn shown(self) -> usize {
        self.0
    }

    /// The rows to read: one more than are shown tells whether there is a next page.
    pub(super) fn rows(self) -> usize {
        self.0 + 1
    }
}

impl Default for Limit {
    fn default() -> Self {
        Limit(Self::DEFAULT)
    }
}

impl TryFrom<usize> for Limit {
    type Error = &'static str;

    fn try_from(limit: usize) -> Result<Self, &'static str> {
        (1..=Self::MAX).contains(&limit).then_some(Limit(limit)).ok_or("limit is a number from 1 to 200")
    }
}

#[cfg(test)]
impl schemars::JsonSchema for Limit {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Limit".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "integer", "minimum": 1, "maximum": Limit::MAX, "default": Limit::DEFAULT})
    }
}

/// The rows that are shown, and the cursor of the next page if there is one.
pub(super) fn cut<T, C>(mut rows: Vec<T>, limit: Limit, cursor: impl Fn(&T) -> C) -> (Vec<T>, Option<C>) {
    let more = rows.len() > limit.0;
    rows.truncate(limit.0);
    let next = rows.last().filter(|_| more).map(cursor);
    (rows, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_page_has_no_cursor() {
        let limit = Limit::try_from(2).unwrap();
        assert_eq!(cut(vec![1, 2, 3], limit, |row| *row), (vec![1, 2], Some(2)));
        assert_eq!(cut(vec![1, 2], limit, |row| *row), (vec![1, 2], None));
        assert_eq!(cut(Vec::<i32>::new(), limit, |row| *row), (vec![], None));
        assert!(Limit::try_from(0).is_err() && Limit::try_from(201).is_err());
    }
}
