/* What has happened to a device on the bench: answers by result, verdicts, faults, states. A fuzzer is told,
 * too, and keeps inputs that make something new happen: code alone does not tell one result from another.
 */
#ifndef HAPPENINGS_H
#define HAPPENINGS_H

#include <stdint.h>
#include <stdio.h>

typedef enum {
    HAPPENING_HELLO,      /* 0 */
    HAPPENING_NO_HANDLER, /* 0: a body that is no message of a host */
    HAPPENING_CONFIG,     /* PROTOCOL_RESULT_ */
    HAPPENING_ARM,
    HAPPENING_DISARM,
    HAPPENING_COMMAND, /* safety_verdict_t */
    HAPPENING_HEARTBEAT,
    HAPPENING_FAULT,  /* PROTOCOL_FAULT_ that was reported */
    HAPPENING_STATE,  /* PROTOCOL_STATE_ at the end of a period */
    HAPPENING_DRIVEN, /* PROTOCOL_MODE_ of a period in which the drive was on */
    HAPPENING_COUNT
} happening_t;

void happenings_note(happening_t what, unsigned value);

/* A line `NAME_VALUE COUNT` for everything that has happened since the program started. */
void happenings_write(FILE *file);

#endif
