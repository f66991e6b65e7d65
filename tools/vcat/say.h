/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * say.h - what vcat tells its user: lines on standard error, prefixed "vcat: "
 */
#ifndef VCAT_SAY_H
#define VCAT_SAY_H

enum {
	EXIT_OK = 0,
	EXIT_NETWORK = 1, /* a connection failed, ended badly, or data may be missing */
	EXIT_USAGE = 2,	  /* the command line is wrong; nothing was tried */
};

/* How many -v were given; set once. */
extern int say_level;

/* A line for everybody. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A line for those who asked with -v (@level 1) or -vv (@level 2). */
void say_if(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
