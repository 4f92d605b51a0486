/* The independent watchdog of a chip: resets it when the main loop no longer takes its periods. */
#ifndef WATCHDOG_H
#define WATCHDOG_H

/* From here on nothing stops it. */
void watchdog_start(void);

void watchdog_feed(void);

#endif
