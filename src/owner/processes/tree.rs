//! Who descends from whom.
//!
//! Contract: an ended process is kept while it has living descendants, up to a
//! number; beyond it the one that ended first goes, and its children become its
//! maker's, as of the time when it was made. Children are kept the youngest
//! first. An [`Index`] of a process that has gone finds nothing.

use super::process::{Index, Process};
use std::collections::VecDeque;

#[derive(Debug)]
struct Node {
    process: Process,
    generation: u32,
    parent: Option<Index>,
    first_child: Option<Index>,
    /// The next younger and the next older child of its parent.
    younger: Option<Index>,
    older: Option<Index>,
    /// When its parent made it, or the ancestor of it that has gone.
    branched: u64,
}

/// All processes by their descent.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Option<Node>>,
    free: Vec<u32>,
    generation: u32,
    ended: VecDeque<Index>,
    count: usize,
    room: usize,
}

impl Tree {
    /// An empty one with room for so many ended processes.
    pub(super) fn new(room: usize) -> Tree {
        Tree {
            nodes: Vec::new(),
            free: Vec::new(),
            generation: 0,
            ended: VecDeque::new(),
            count: 0,
            room,
        }
    }

    #[inline]
    fn node(&self, at: Index) -> Option<&Node> {
        let node = self.nodes.get(at.slot as usize)?.as_ref()?;
        (node.generation == at.generation).then_some(node)
    }

    #[inline]
    fn node_mut(&mut self, at: Index) -> Option<&mut Node> {
        let node = self.nodes.get_mut(at.slot as usize)?.as_mut()?;
        (node.generation == at.generation).then_some(node)
    }

    /// The process.
    #[inline]
    pub(super) fn get(&self, at: Index) -> Option<&Process> {
        self.node(at).map(|node| &node.process)
    }

    /// The process, and its maker, where that is kept.
    #[inline(always)]
    pub(super) fn with_parent(&self, at: Index) -> Option<(&Process, Option<&Process>)> {
        let node = self.node(at)?;
        let parent = node.parent.and_then(|parent| self.get(parent));
        Some((&node.process, parent))
    }

    /// The process.
    #[inline]
    pub(super) fn get_mut(&mut self, at: Index) -> Option<&mut Process> {
        self.node_mut(at).map(|node| &mut node.process)
    }

    /// Its maker, where that is kept.
    pub(super) fn parent(&self, at: Index) -> Option<Index> {
        self.node(at)?.parent
    }

    /// Its youngest child.
    pub(super) fn first_child(&self, at: Index) -> Option<Index> {
        self.node(at)?.first_child
    }

    /// When its branch left its parent.
    pub(super) fn branched(&self, at: Index) -> u64 {
        self.node(at).map_or(0, |node| node.branched)
    }

    /// The descendant of `top` that follows this one: its youngest child, else
    /// the next older child of an ancestor.
    pub(super) fn after(&self, at: Index, top: Index) -> Option<Index> {
        let mut node = self.node(at)?;
        if let Some(child) = node.first_child {
            return Some(child);
        }
        loop {
            if let Some(next) = node.older {
                return Some(next);
            }
            let parent = node.parent.filter(|parent| *parent != top)?;
            node = self.node(parent)?;
        }
    }

    /// One more, of nobody known.
    pub(super) fn add(&mut self, process: Process) -> Index {
        self.generation = self.generation.wrapping_add(1);
        let node = Node {
            process,
            generation: self.generation,
            parent: None,
            first_child: None,
            younger: None,
            older: None,
            branched: 0,
        };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.nodes.push(None);
                self.nodes.len() as u32 - 1
            }
        };
        if let Some(place) = self.nodes.get_mut(slot as usize) {
            *place = Some(node);
        }
        Index {
            slot,
            generation: self.generation,
        }
    }

    /// Makes a process without a parent the youngest child of another one.
    pub(super) fn attach(&mut self, at: Index, parent: Index, branched: u64) {
        let Some(first) = self.node(parent).map(|node| node.first_child) else {
            return;
        };
        let Some(node) = self.node_mut(at).filter(|node| node.parent.is_none()) else {
            return;
        };
        (node.parent, node.branched, node.older) = (Some(parent), branched, first);
        self.set_younger(first, Some(at));
        if let Some(node) = self.node_mut(parent) {
            node.first_child = Some(at);
        }
    }

    fn set_younger(&mut self, at: Option<Index>, younger: Option<Index>) {
        if let Some(node) = at.and_then(|at| self.node_mut(at)) {
            node.younger = younger;
        }
    }

    /// Sets what comes after `younger` among the children of `parent`, which is
    /// the first one where there is no `younger`.
    fn set_older(&mut self, parent: Option<Index>, younger: Option<Index>, older: Option<Index>) {
        match younger {
            Some(younger) => {
                if let Some(node) = self.node_mut(younger) {
                    node.older = older;
                }
            }
            None => {
                if let Some(node) = parent.and_then(|at| self.node_mut(at)) {
                    node.first_child = older;
                }
            }
        }
    }

    /// A process has ended. It goes, with all ended ancestors that have nobody
    /// living now; or the one goes that ended first, for want of room. `gone`
    /// is told of each, and whether it was for that.
    pub(super) fn end(&mut self, at: Index, gone: &mut dyn FnMut(Index, &Process, bool)) {
        self.count += 1;
        self.ended.push_back(at);
        let mut next = Some(at);
        while let Some(at) = next {
            let bare = |node: &&Node| node.first_child.is_none() && !node.process.living;
            let Some(node) = self.node(at).filter(bare) else {
                break;
            };
            next = node.parent;
            self.remove(at, false, gone);
        }
        while self.count > self.room {
            let Some(oldest) = self.ended.pop_front() else {
                break;
            };
            self.remove(oldest, true, gone);
        }
        if self.ended.len() > 2 * self.room {
            let mut ended = std::mem::take(&mut self.ended);
            ended.retain(|&at| self.node(at).is_some());
            self.ended = ended;
        }
    }

    /// Takes out an ended process; its children take its place.
    fn remove(&mut self, at: Index, forced: bool, gone: &mut dyn FnMut(Index, &Process, bool)) {
        if self.node(at).is_none() {
            return;
        }
        let Some(node) = self.nodes.get_mut(at.slot as usize).and_then(Option::take) else {
            return;
        };
        self.free.push(at.slot);
        self.count = self.count.saturating_sub(1);
        let (mut last, mut next) = (node.younger, node.first_child);
        if node.parent.is_some() {
            let first = next.or(node.older);
            self.set_older(node.parent, node.younger, first);
        }
        while let Some(child) = next {
            let Some(moved) = self.node_mut(child) else {
                break;
            };
            next = moved.older;
            moved.parent = node.parent;
            match node.parent {
                Some(_) => {
                    moved.branched = node.branched;
                    moved.younger = last;
                }
                None => (moved.branched, moved.younger, moved.older) = (0, None, None),
            }
            last = Some(child);
        }
        if node.parent.is_some() {
            if node.first_child.is_some() {
                self.set_older(node.parent, last, node.older);
            }
            self.set_younger(node.older, last);
        }
        gone(at, &node.process, forced);
    }

    /// Processes kept, and places held for them.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        let kept = self.nodes.iter().flatten().count();
        (kept, self.nodes.len().max(self.ended.len()))
    }
}
