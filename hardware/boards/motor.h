/* The motor of a real board, as the drive of the plant: it follows an acceleration, ramp by ramp. */
#ifndef MOTOR_H
#define MOTOR_H

#include "protocol.h"

/* Pins and timer; the drive stays disabled. */
void motor_start(void);

/* What the drive does until the next call, one control period later. `blind`: neither the axis encoder nor
 * the direction that the motor turns in can be trusted. One that is held by the encoder goes off, because
 * braking would drive; a stepper brakes. */
void motor_actuate(const protocol_actuate_t *actuate, bool blind);

/* Once a millisecond, from an interrupt, with the count of the axis encoder where there is one: moves the
 * speed along its ramp. Half a period after the next motor_actuate() should have come the motor brakes to a
 * standstill by itself. Until it has, the board's watchdog does not reset the chip
 * (SPEED_RAMP_REST_MS), which would let the axis go. */
void motor_millisecond(int32_t axis_count);

/* Steps made since motor_start(), with their sign: the position of an axis without an encoder. Only there;
 * what is moved by hand while the drive is off is not in it. */
int32_t motor_count(void);

/* True from the motor_actuate() that enables it until it is off. */
bool motor_enabled(void);

/* Disables the drive at once. */
void motor_off(void);

/* The drive reports a fault of its own, or had to brake by itself. */
bool motor_fault(void);

#endif
