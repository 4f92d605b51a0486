/* What the drive will accept: acceleration, speed and room to brake.
 *
 * The drive integrates accelerations into a velocity set-point v. One period T after latching a the set-point
 * is v' = v + a T and the axis has moved (v + v') T / 2; from there it must still stop at the brake
 * acceleration B before the soft limit L. With h = T / 2 and d = L - x - h v:  v' <= B (sqrt(h^2 + 2 d / B) -
 * h), and its mirror image. Twin of hardware/drive.py, to the bit.
 */
#ifndef DRIVE_H
#define DRIVE_H

typedef struct {
    float velocity_setpoint; /* m/s or rad/s */
} drive_t;

/* Standstill. */
void drive_reset(drive_t *drive);

/* Limits one acceleration [m/s^2 or rad/s^2] at the boundary where it takes effect and advances the velocity
 * set-point. Returns the acceleration that the drive may follow. `acceleration` must be finite. */
float drive_latch(drive_t *drive, float acceleration, float axis_position);

/* The acceleration that takes the velocity set-point towards zero, at most at the brake limit. */
float drive_brake(const drive_t *drive);

#endif
