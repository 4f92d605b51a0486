/* The last POLICY_HISTORY base observations, centred. Owned by the caller; any number of them may exist. */
typedef struct {
    float frames[POLICY_HISTORY * POLICY_BASE_OBSERVATION_SIZE]; /* a ring of frames */
    uint8_t oldest;                                              /* index of the oldest frame in the ring */
    uint8_t filled; /* 0: the next observation fills every frame */
} policy_state_t;

/* Forgets the history: the next observation fills all frames. */
static inline void policy_reset(policy_state_t *state) {
    state->oldest = 0u;
    state->filled = 0u;
}

/* Pushes one base observation (POLICY_BASE_OBSERVATION_SIZE values) without computing an action. */
static inline void policy_observe(policy_state_t *state, const float base_observation[]) {
    uint32_t frames = state->filled != 0u ? 1u : (uint32_t)POLICY_HISTORY;
    uint32_t index = state->oldest;
    do {
        float *frame = &state->frames[index * POLICY_BASE_OBSERVATION_SIZE];
        for (uint32_t i = 0; i < POLICY_BASE_OBSERVATION_SIZE; ++i) {
            frame[i] = POLICY_CENTRED(base_observation[i], i);
        }
        index = index + 1u < (uint32_t)POLICY_HISTORY ? index + 1u : 0u;
    } while (--frames > 0u);
    state->oldest = (uint8_t)index;
    state->filled = 1u;
}

/* Pushes one base observation and computes the action (POLICY_ACTION_SIZE values, physical units). */
static inline void policy_step(policy_state_t *state, const float base_observation[], float action[]) {
    float centred[POLICY_OBSERVATION_SIZE];
    float *stacked = centred;
    policy_observe(state, base_observation);
    const float *frame = &state->frames[(uint32_t)state->oldest * POLICY_BASE_OBSERVATION_SIZE];
    const float *const frames_end = &state->frames[POLICY_HISTORY * POLICY_BASE_OBSERVATION_SIZE];
    do {
        for (uint32_t i = 0; i < POLICY_BASE_OBSERVATION_SIZE; ++i) {
            stacked[i] = frame[i];
        }
        stacked += POLICY_BASE_OBSERVATION_SIZE;
        frame += POLICY_BASE_OBSERVATION_SIZE;
        if (frame == frames_end) {
            frame = state->frames;
        }
    } while (stacked != centred + POLICY_OBSERVATION_SIZE);
    policy_network(centred, action);
}
