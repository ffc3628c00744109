//! What waits in a queue that is nearly always empty, and then mostly holds one piece.

use std::collections::VecDeque;

use crate::protocol::Frames;

/// Frames in order. The first has its place here: a delivery to a socket that takes it allocates nothing, and neither does silence.
#[derive(Default)]
pub(super) struct Waiting {
    first: Option<Frames>,
    rest: VecDeque<Frames>,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn push(&mut self, frames: Frames) {
        match self.first {
            None => self.first = Some(frames),
            Some(_) => self.rest.push_back(frames),
        }
    }

    pub(super) fn first(&self) -> Option<&Frames> {
        self.first.as_ref()
    }

    /// Drops the first. The last of those behind it takes their memory along.
    pub(super) fn drop_first(&mut self) {
        self.first = self.rest.pop_front();
        if self.rest.is_empty() {
            self.rest = VecDeque::new();
        }
    }

    /// Keeps the first or nothing.
    pub(super) fn keep_first(&mut self, keep: bool) {
        self.first = self.first.take().filter(|_| keep);
        self.rest = VecDeque::new();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Frames> {
        self.first.iter().chain(&self.rest)
    }
}
