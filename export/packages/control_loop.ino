/*
 * The policy behind the serial line, 115200 baud: send one observation a line, numbers with blanks between
 * them, in the order below; back come the actions and the microseconds that policy_step took. "reset" starts
 * a new episode. In your firmware, fill `observation` from the sensors once every POLICY_PERIOD_US, and test
 * every action as here before it reaches an actuator: it is NaN while the last POLICY_HISTORY observations
 * hold one that is no number.
 *
@FACTS@
 */
#include <policy.h>
#include <stdlib.h>
#include <string.h>

static policy_state_t state;
static char line[24 * POLICY_BASE_OBSERVATION_SIZE + 2];
static size_t length = 0;
static bool overlong = false;

/* Not so when NaN. */
static bool within_limits(const float action[]) {
    for (int i = 0; i < POLICY_ACTION_SIZE; ++i) {
        if (!(action[i] >= policy_action_low[i] && action[i] <= policy_action_high[i])) {
            return false;
        }
    }
    return true;
}

/* Reads all numbers of a line: no more and no fewer. */
static bool read_observation(float observation[]) {
    char *place = line;
    for (int i = 0; i < POLICY_BASE_OBSERVATION_SIZE; ++i) {
        char *end = place;
        observation[i] = (float)strtod(place, &end);
        if (end == place) {
            return false;
        }
        place = end;
    }
    return *(place + strspn(place, " \t\r")) == '\0';
}

static void answer() {
    float observation[POLICY_BASE_OBSERVATION_SIZE];
    float action[POLICY_ACTION_SIZE];
    if (strncmp(line, "reset", 5) == 0) {
        policy_reset(&state);
        return;
    }
    if (overlong || !read_observation(observation)) {
        Serial.print("error: expected so many numbers: ");
        Serial.println(POLICY_BASE_OBSERVATION_SIZE);
        return;
    }
    const unsigned long started = micros();
    policy_step(&state, observation, action);
    const unsigned long took = micros() - started;
    if (!within_limits(action)) {
        Serial.println("stop: no usable action; an observation was no number");
        return;
    }
    for (int i = 0; i < POLICY_ACTION_SIZE; ++i) {
        Serial.print(action[i], 6);
        Serial.print(' ');
    }
    Serial.println(took);
}

void setup() {
    Serial.begin(115200);
    const int failed = policy_self_test();
    while (failed != 0) {
        Serial.print("error: the policy's self test fails at known answer ");
        Serial.println(failed - 1);
        delay(1000);
    }
    policy_reset(&state);
    Serial.print("policy ");
    Serial.println(POLICY_DIGEST_HEX);
}

void loop() {
    while (Serial.available() > 0) {
        const int character = Serial.read();
        if (character == '\n') {
            line[length] = '\0';
            answer();
            length = 0;
            overlong = false;
        } else if (length + 1 < sizeof line) {
            line[length++] = (char)character;
        } else {
            overlong = true;
        }
    }
}
