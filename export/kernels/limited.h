/* value within +-limit, without a branch. */
static inline int32_t policy_limited(int32_t value, int32_t limit) {
    const int32_t above = value - limit;
    const int32_t lower = limit + (above & (above >> 31));
    const int32_t below = lower + limit;
    return (below & ~(below >> 31)) - limit;
}
