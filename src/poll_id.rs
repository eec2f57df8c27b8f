/// The identifier of a [`Poll`](crate::Poll) in this process.
///
/// A source keeps the identifier of the poll that it is registered with. An identifier may be used again after four billion
/// polls.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PollId(u32);

impl PollId {
    /// The identifier of no poll: the source is not registered.
    pub(crate) const NONE: PollId = PollId(0);

    pub(crate) fn from_number(number: u32) -> PollId {
        PollId(number)
    }

    pub(crate) fn number(self) -> u32 {
        self.0
    }

    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self == PollId::NONE
    }
}
