//! Which streams are paused for their results, and why. What follows from that is in [`super::results`].

use std::collections::BTreeSet;
use std::sync::Arc;

use procpool_scheduler::{Hold, JobId};

use crate::outlet::Outlet;
use crate::results::{Level, ResultAccount, ResultBudget};

/// Which streams are paused, and whose results are to be looked at.
pub(super) struct ResultWatch {
    pub(super) budget: Arc<ResultBudget>,
    pub(super) held: BTreeSet<JobId>,
    /// Whose results have become more since the last look.
    pub(super) stored: Vec<JobId>,
    /// How full the room for streams was at the last look.
    pub(super) level: Level,
}

impl ResultWatch {
    pub(super) fn new(budget: Arc<ResultBudget>) -> Self {
        Self { budget, held: BTreeSet::new(), stored: Vec::new(), level: Level::Shared }
    }

    /// Returns the account of a new job, and what of it should not begin.
    pub(super) fn open_account(&mut self, job: JobId, outlet: &Outlet) -> (Arc<ResultAccount>, Hold) {
        let is_stream = matches!(outlet, Outlet::Stream(_));
        let account = ResultAccount::new(&self.budget, is_stream);
        let hold = if is_stream { self.hold_of(&account, 0) } else { Hold::Nothing };
        if hold != Hold::Nothing {
            // That there is room again must be noticed.
            self.stored.push(job);
        }
        (account, hold)
    }

    /// Forgets a stream that is held; does nothing for another job.
    pub(super) fn forget(&mut self, job: JobId) {
        if self.held.remove(&job) && self.held.is_empty() {
            self.budget.await_room(false);
        }
    }

    /// Returns what of a stream should not begin, when so many bytes of its results come in.
    pub(super) fn hold_of(&self, account: &ResultAccount, coming: u64) -> Hold {
        let level = self.budget.streams.level_with(coming);
        if level == Level::Shared && !account.holds_too_much_with(coming) {
            Hold::Nothing
        } else if account.handed_out() == 0 && (account.stored() + coming > 0 || level < Level::Over) {
            Hold::AllButNext
        } else {
            Hold::All
        }
    }
}
