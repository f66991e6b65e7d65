// SPDX-License-Identifier: BSD-2-Clause
/*
 * rules_conn.c - the life of a connection, stated a second time
 *
 * The rules have one paragraph per state; here there is one per event, written from what the event means (virtio 1.4
 * 5.10.6.4 to 5.10.6.6 and what af_vsock does with it). Every cell of the table is named exactly once;
 * table_is_complete sees to that. Below the cells stand statements that must hold of any table of this kind.
 */
#include "check.h"
#include "conn.h"

struct cell {
	u8 state;
	u8 event;
	bool possible;
	u8 next;
	u32 acts;
	u8 err;
};

static void check_cell(const void *arg)
{
	const struct cell *c = arg;
	struct vsp_verdict v = vsp_conn_step((enum vsp_state)c->state, (enum vsp_event)c->event);

	CHECK_EQ(v.possible, c->possible);
	CHECK_EQ(v.next, c->next);
	CHECK_EQ(v.acts, c->acts);
	CHECK_EQ(v.err, c->err);
}

#define ROW(s, e, ...)                                                               \
	{                                                                            \
		.name = #e "_in_" #s, .run = check_cell, .arg = &(const struct cell) \
		{                                                                    \
			.state = VSP_##s, .event = VSP_EV_##e, __VA_ARGS__           \
		}                                                                    \
	}
/* In state @s, event @e leads to @n, with acts @a, and whoever waits is told @r. */
#define CELL(s, e, n, a, r) ROW(s, e, .possible = true, .next = VSP_##n, .acts = (a), .err = VSP_ERR_##r)
/* Event @e in state @s is a mistake of ours. Such a verdict is all zero: nobody may act on it. */
#define BUG(s, e) ROW(s, e, .possible = false)

#define A(x) ((u32)VSP_ACT_##x)
#define ENDS (A(HANGUP) | A(FORGET))

static const struct check_case cases_of_cells[] = {
	/*
	 * Somebody wants to connect. Only a listener has use for that; where a flow lives, the peer has lost its own.
	 */
	CELL(CLOSED, REQUEST, CLOSED, A(SEND_RST), NONE),
	CELL(LISTEN, REQUEST, LISTEN, A(SPAWN), NONE),
	CELL(ACCEPTING, REQUEST, ACCEPTING, A(UNEXPECTED), NONE),
	CELL(CONNECTING, REQUEST, CLOSED, A(STOP_TIMER) | A(SEND_RST) | ENDS | A(UNEXPECTED), PROTO),
	CELL(ESTABLISHED, REQUEST, CLOSED, ENDS | A(AGAIN), RESET),
	CELL(CLOSING, REQUEST, CLOSED, A(STOP_TIMER) | ENDS | A(AGAIN), NONE),

	/* It asks once more for a connection that nobody has used: the answer may be there, or on its way, or lost. */
	CELL(CLOSED, REQUEST_AGAIN, CLOSED, A(SEND_RST), NONE),
	CELL(LISTEN, REQUEST_AGAIN, LISTEN, A(SPAWN), NONE),
	CELL(ACCEPTING, REQUEST_AGAIN, ACCEPTING, A(UNEXPECTED), NONE),
	CELL(CONNECTING, REQUEST_AGAIN, CLOSED, A(STOP_TIMER) | A(SEND_RST) | ENDS | A(UNEXPECTED), PROTO),
	CELL(ESTABLISHED, REQUEST_AGAIN, ESTABLISHED, A(SEND_RESPONSE) | A(UNEXPECTED), NONE),
	CELL(CLOSING, REQUEST_AGAIN, CLOSING, A(UNEXPECTED), NONE),

	/* Somebody grants a request. One who asked is connected; one who is connected was told twice. */
	CELL(CLOSED, RESPONSE, CLOSED, A(SEND_RST), NONE),
	CELL(LISTEN, RESPONSE, LISTEN, A(SEND_RST) | A(UNEXPECTED), NONE),
	CELL(ACCEPTING, RESPONSE, CLOSED, A(STOP_TIMER) | A(SEND_RST) | ENDS | A(UNEXPECTED), PROTO),
	CELL(CONNECTING, RESPONSE, ESTABLISHED, A(STOP_TIMER) | A(OPEN), NONE),
	CELL(ESTABLISHED, RESPONSE, ESTABLISHED, A(UNEXPECTED), NONE),
	CELL(CLOSING, RESPONSE, CLOSING, A(UNEXPECTED), NONE),

	/*
	 * The peer aborts: a refusal for one who asked, a loss for one who was connected, the expected end for one
	 * who closed.
	 */
	CELL(CLOSED, RST, CLOSED, 0, NONE),
	CELL(LISTEN, RST, LISTEN, 0, NONE),
	CELL(ACCEPTING, RST, CLOSED, A(STOP_TIMER) | ENDS, RESET),
	CELL(CONNECTING, RST, CLOSED, A(STOP_TIMER) | ENDS, REFUSED),
	CELL(ESTABLISHED, RST, CLOSED, ENDS, RESET),
	CELL(CLOSING, RST, CLOSED, A(STOP_TIMER) | ENDS, NONE),

	/* The same after "will not send": only for the connected does it make a difference, it is an orderly end. */
	CELL(CLOSED, RST_AFTER_END, CLOSED, 0, NONE),
	CELL(LISTEN, RST_AFTER_END, LISTEN, 0, NONE),
	CELL(ACCEPTING, RST_AFTER_END, CLOSED, A(STOP_TIMER) | ENDS, RESET),
	CELL(CONNECTING, RST_AFTER_END, CLOSED, A(STOP_TIMER) | ENDS, REFUSED),
	CELL(ESTABLISHED, RST_AFTER_END, CLOSED, ENDS, NONE),
	CELL(CLOSING, RST_AFTER_END, CLOSED, A(STOP_TIMER) | ENDS, NONE),

	/* Half a shutdown: noted where there is a connection, an error before there is one. */
	CELL(CLOSED, SHUTDOWN_PART, CLOSED, A(SEND_RST), NONE),
	CELL(LISTEN, SHUTDOWN_PART, LISTEN, A(SEND_RST) | A(UNEXPECTED), NONE),
	CELL(ACCEPTING, SHUTDOWN_PART, CLOSED, A(STOP_TIMER) | A(SEND_RST) | ENDS | A(UNEXPECTED), PROTO),
	CELL(CONNECTING, SHUTDOWN_PART, CLOSED, A(STOP_TIMER) | A(SEND_RST) | ENDS | A(UNEXPECTED), PROTO),
	CELL(ESTABLISHED, SHUTDOWN_PART, ESTABLISHED, A(HINT), NONE),
	CELL(CLOSING, SHUTDOWN_PART, CLOSING, A(HINT), NONE),

	/* A whole shutdown with data left to read: the reader comes first; one who closed has no reader. */
	CELL(CLOSED, SHUTDOWN_UNREAD, CLOSED, A(SEND_RST), NONE),
	CELL(LISTEN, SHUTDOWN_UNREAD, LISTEN, A(SEND_RST) | A(UNEXPECTED), NONE),
	CELL(ACCEPTING, SHUTDOWN_UNREAD, CLOSED, A(STOP_TIMER) | A(SEND_RST) | ENDS | A(UNEXPECTED), PROTO),
	CELL(CONNECTING, SHUTDOWN_UNREAD, CLOSED, A(STOP_TIMER) | A(SEND_RST) | ENDS | A(UNEXPECTED), PROTO),
	CELL(ESTABLISHED, SHUTDOWN_UNREAD, ESTABLISHED, A(HINT), NONE),
	CELL(CLOSING, SHUTDOWN_UNREAD, CLOSED, A(STOP_TIMER) | A(HINT) | A(SEND_RST) | ENDS, NONE),

	/*
	 * A whole shutdown and nothing left: answered by the reset that 5.10.6.4 asks for. A caller that gave up is
	 * no error.
	 */
	CELL(CLOSED, SHUTDOWN, CLOSED, A(SEND_RST), NONE),
	CELL(LISTEN, SHUTDOWN, LISTEN, A(SEND_RST) | A(UNEXPECTED), NONE),
	CELL(ACCEPTING, SHUTDOWN, CLOSED, A(STOP_TIMER) | A(SEND_RST) | ENDS, RESET),
	CELL(CONNECTING, SHUTDOWN, CLOSED, A(STOP_TIMER) | A(SEND_RST) | ENDS | A(UNEXPECTED), PROTO),
	CELL(ESTABLISHED, SHUTDOWN, CLOSED, A(HINT) | A(SEND_RST) | ENDS, NONE),
	CELL(CLOSING, SHUTDOWN, CLOSED, A(STOP_TIMER) | A(HINT) | A(SEND_RST) | ENDS, NONE),

	/* Payload: read by the connected, thrown away by one who closed, an error for everybody else. */
	CELL(CLOSED, DATA, CLOSED, A(SEND_RST), NONE),
	CELL(LISTEN, DATA, LISTEN, A(SEND_RST) | A(UNEXPECTED), NONE),
	CELL(ACCEPTING, DATA, CLOSED, A(STOP_TIMER) | A(SEND_RST) | ENDS | A(UNEXPECTED), PROTO),
	CELL(CONNECTING, DATA, CLOSED, A(STOP_TIMER) | A(SEND_RST) | ENDS | A(UNEXPECTED), PROTO),
	CELL(ESTABLISHED, DATA, ESTABLISHED, A(DELIVER), NONE),
	CELL(CLOSING, DATA, CLOSING, A(DISCARD), NONE),

	/*
	 * The peer's window: may come unasked at any time after its request (stock: setsockopt while connecting sends
	 * one).
	 */
	CELL(CLOSED, CREDIT_UPDATE, CLOSED, A(SEND_RST), NONE),
	CELL(LISTEN, CREDIT_UPDATE, LISTEN, A(SEND_RST) | A(UNEXPECTED), NONE),
	CELL(ACCEPTING, CREDIT_UPDATE, ACCEPTING, A(CREDIT), NONE),
	CELL(CONNECTING, CREDIT_UPDATE, CLOSED, A(STOP_TIMER) | A(SEND_RST) | ENDS | A(UNEXPECTED), PROTO),
	CELL(ESTABLISHED, CREDIT_UPDATE, ESTABLISHED, A(CREDIT), NONE),
	CELL(CLOSING, CREDIT_UPDATE, CLOSING, A(CREDIT), NONE),

	/*
	 * The peer asks for ours: answered, and its own fields are news as well. Before RESPONSE that is what answers.
	 */
	CELL(CLOSED, CREDIT_REQUEST, CLOSED, A(SEND_RST), NONE),
	CELL(LISTEN, CREDIT_REQUEST, LISTEN, A(SEND_RST) | A(UNEXPECTED), NONE),
	CELL(ACCEPTING, CREDIT_REQUEST, ACCEPTING, A(UNEXPECTED), NONE),
	CELL(CONNECTING, CREDIT_REQUEST, CLOSED, A(STOP_TIMER) | A(SEND_RST) | ENDS | A(UNEXPECTED), PROTO),
	CELL(ESTABLISHED, CREDIT_REQUEST, ESTABLISHED, A(CREDIT) | A(SEND_CREDIT), NONE),
	CELL(CLOSING, CREDIT_REQUEST, CLOSING, A(CREDIT) | A(SEND_CREDIT), NONE),

	/*
	 * A packet that was refused ends the flow it claims to be of; a listener outlives it; who closed need not
	 * know why.
	 */
	CELL(CLOSED, VIOLATION, CLOSED, A(SEND_RST), NONE),
	CELL(LISTEN, VIOLATION, LISTEN, A(SEND_RST), NONE),
	CELL(ACCEPTING, VIOLATION, CLOSED, A(STOP_TIMER) | A(SEND_RST) | ENDS, PROTO),
	CELL(CONNECTING, VIOLATION, CLOSED, A(STOP_TIMER) | A(SEND_RST) | ENDS, PROTO),
	CELL(ESTABLISHED, VIOLATION, CLOSED, A(SEND_RST) | ENDS, PROTO),
	CELL(CLOSING, VIOLATION, CLOSED, A(STOP_TIMER) | A(SEND_RST) | ENDS, NONE),

	/* listen(): for a fresh socket; again for a listener (a new backlog). */
	CELL(CLOSED, LISTEN, LISTEN, 0, NONE),
	CELL(LISTEN, LISTEN, LISTEN, 0, NONE),
	BUG(ACCEPTING, LISTEN),
	BUG(CONNECTING, LISTEN),
	BUG(ESTABLISHED, LISTEN),
	BUG(CLOSING, LISTEN),

	/* connect(): for a fresh socket, and for nobody else. */
	CELL(CLOSED, CONNECT, CONNECTING, A(START_TIMER) | A(SEND_REQUEST), NONE),
	BUG(LISTEN, CONNECT),
	BUG(ACCEPTING, CONNECT),
	BUG(CONNECTING, CONNECT),
	BUG(ESTABLISHED, CONNECT),
	BUG(CLOSING, CONNECT),

	/* A request that waits is granted. */
	BUG(CLOSED, ACCEPT),
	BUG(LISTEN, ACCEPT),
	CELL(ACCEPTING, ACCEPT, ESTABLISHED, A(STOP_TIMER) | A(OPEN) | A(SEND_RESPONSE), NONE),
	BUG(CONNECTING, ACCEPT),
	BUG(ESTABLISHED, ACCEPT),
	BUG(CLOSING, ACCEPT),

	/*
	 * A request is denied: before anything was made for it (by the listener), or after. Nobody here waits for it.
	 */
	BUG(CLOSED, REFUSE),
	CELL(LISTEN, REFUSE, LISTEN, A(SEND_RST), NONE),
	CELL(ACCEPTING, REFUSE, CLOSED, A(STOP_TIMER) | A(SEND_RST) | A(FORGET), NONE),
	BUG(CONNECTING, REFUSE),
	BUG(ESTABLISHED, REFUSE),
	BUG(CLOSING, REFUSE),

	/* shutdown(): there is somebody to tell only in a connection, and a program can call it only until close(). */
	CELL(CLOSED, SHUT, CLOSED, 0, NONE),
	CELL(LISTEN, SHUT, LISTEN, 0, NONE),
	BUG(ACCEPTING, SHUT),
	CELL(CONNECTING, SHUT, CONNECTING, 0, NONE),
	CELL(ESTABLISHED, SHUT, ESTABLISHED, A(SEND_SHUTDOWN), NONE),
	BUG(CLOSING, SHUT),

	/*
	 * The reader took the last byte of a peer that had closed: now the reset it waits for. Also after it was over.
	 */
	CELL(CLOSED, DRAINED, CLOSED, 0, NONE),
	BUG(LISTEN, DRAINED),
	BUG(ACCEPTING, DRAINED),
	BUG(CONNECTING, DRAINED),
	CELL(ESTABLISHED, DRAINED, CLOSED, A(SEND_RST) | ENDS, NONE),
	BUG(CLOSING, DRAINED),

	/* close(): the connected wait for the peer's reset, those who are not yet reset at once. Twice is a mistake. */
	CELL(CLOSED, CLOSE, CLOSED, 0, NONE),
	CELL(LISTEN, CLOSE, CLOSED, A(FORGET), NONE),
	CELL(ACCEPTING, CLOSE, CLOSED, A(STOP_TIMER) | A(SEND_RST) | A(FORGET), NONE),
	CELL(CONNECTING, CLOSE, CLOSED, A(STOP_TIMER) | A(SEND_RST) | A(FORGET), NONE),
	CELL(ESTABLISHED, CLOSE, CLOSING, A(START_TIMER) | A(SEND_SHUTDOWN), NONE),
	BUG(CLOSING, CLOSE),

	/* close() as the second of two: the peer's shutdown is answered by a reset, nothing is waited for. */
	CELL(CLOSED, CLOSE_LAST, CLOSED, 0, NONE),
	BUG(LISTEN, CLOSE_LAST),
	BUG(ACCEPTING, CLOSE_LAST),
	BUG(CONNECTING, CLOSE_LAST),
	CELL(ESTABLISHED, CLOSE_LAST, CLOSED, A(SEND_RST) | A(FORGET), NONE),
	BUG(CLOSING, CLOSE_LAST),

	/*
	 * The timer: the peer owes an answer, or a reset after our shutdown. One that raced with the end is harmless.
	 */
	CELL(CLOSED, TIMEOUT, CLOSED, 0, NONE),
	BUG(LISTEN, TIMEOUT),
	CELL(ACCEPTING, TIMEOUT, CLOSED, A(SEND_RST) | ENDS, TIMEOUT),
	CELL(CONNECTING, TIMEOUT, CLOSED, A(SEND_RST) | ENDS, TIMEOUT),
	BUG(ESTABLISHED, TIMEOUT),
	CELL(CLOSING, TIMEOUT, CLOSED, A(SEND_RST) | ENDS, NONE),

	/*
	 * The device is gone or was reset: connections end without a word to anybody out there, listeners stay
	 * (5.10.6.7).
	 */
	CELL(CLOSED, GONE, CLOSED, 0, NONE),
	CELL(LISTEN, GONE, LISTEN, 0, NONE),
	CELL(ACCEPTING, GONE, CLOSED, A(STOP_TIMER) | ENDS, RESET),
	CELL(CONNECTING, GONE, CLOSED, A(STOP_TIMER) | ENDS, RESET),
	CELL(ESTABLISHED, GONE, CLOSED, ENDS, RESET),
	CELL(CLOSING, GONE, CLOSED, A(STOP_TIMER) | ENDS, NONE),
};

static void table_is_complete(const void *arg)
{
	u32 seen[NUM_VSP_STATES][NUM_VSP_EVENTS] = { 0 };

	(void)arg;
	CHECK_EQ(ARRAY_SIZE(cases_of_cells), ARRAY_SIZE(seen) * ARRAY_SIZE(seen[0]));
	for (size_t i = 0; i < ARRAY_SIZE(cases_of_cells); i++) {
		const struct cell *c = cases_of_cells[i].arg;

		seen[c->state][c->event]++;
	}
	for (u32 s = 0; s < NUM_VSP_STATES; s++)
		for (u32 e = 0; e < NUM_VSP_EVENTS; e++)
			CHECK_EQ(seen[s][e], 1);
}

/* Call @judge for every cell that can happen. */
static void every_cell(void (*judge)(enum vsp_state, enum vsp_event, struct vsp_verdict))
{
	for (u32 s = 0; s < NUM_VSP_STATES; s++) {
		for (u32 e = 0; e < NUM_VSP_EVENTS; e++) {
			struct vsp_verdict v = vsp_conn_step((enum vsp_state)s, (enum vsp_event)e);

			if (v.possible)
				judge((enum vsp_state)s, (enum vsp_event)e, v);
		}
	}
}

static void no_reset_answers(enum vsp_state s, enum vsp_event e, struct vsp_verdict v)
{
	(void)s;
	if (e == VSP_EV_RST || e == VSP_EV_RST_AFTER_END)
		CHECK_EQ(v.acts & A(SEND_RST), 0);
}

/* Two ends that answered each other's resets would never stop. */
static void rst_never_answers_rst(const void *arg)
{
	(void)arg;
	every_cell(no_reset_answers);
}

static void peer_is_defined(const void *arg)
{
	(void)arg;
	for (u32 s = 0; s < NUM_VSP_STATES; s++)
		for (u32 e = 0; e <= VSP_EV_VIOLATION; e++)
			CHECK(vsp_conn_step((enum vsp_state)s, (enum vsp_event)e).possible);
}

static bool is_flow(u32 s)
{
	return s == VSP_ACCEPTING || s == VSP_CONNECTING || s == VSP_ESTABLISHED || s == VSP_CLOSING;
}

static bool is_timed(u32 s)
{
	return s == VSP_ACCEPTING || s == VSP_CONNECTING || s == VSP_CLOSING;
}

static void ends_balance(enum vsp_state s, enum vsp_event e, struct vsp_verdict v)
{
	bool leaves = s != VSP_CLOSED && v.next == VSP_CLOSED;

	(void)e;
	CHECK_EQ(!!(v.acts & A(FORGET)), leaves);
	if (v.acts & A(HANGUP))
		CHECK(leaves && is_flow(s));
	else
		CHECK_EQ(v.err, VSP_ERR_NONE);
	if (v.acts & A(SEND_SHUTDOWN))
		CHECK(v.next == VSP_ESTABLISHED || v.next == VSP_CLOSING);
}

/* Out of the tables exactly when it ends; an error is reported exactly where somebody may wait. */
static void forgotten_once(const void *arg)
{
	(void)arg;
	every_cell(ends_balance);
}

static void timer_balances(enum vsp_state s, enum vsp_event e, struct vsp_verdict v)
{
	bool stays = v.next == s;

	CHECK_EQ(!!(v.acts & A(STOP_TIMER)), is_timed(s) && !stays && e != VSP_EV_TIMEOUT);
	CHECK_EQ(!!(v.acts & A(START_TIMER)), !stays && is_timed(v.next));
}

/* A state with a timer starts it on the way in and stops it on the way out, unless it ran out. */
static void timers_balance(const void *arg)
{
	(void)arg;
	every_cell(timer_balances);
}

static void payload_counted(enum vsp_state s, enum vsp_event e, struct vsp_verdict v)
{
	u32 fate = v.acts & (A(DELIVER) | A(DISCARD) | A(SEND_RST));

	(void)s;
	if (e == VSP_EV_DATA)
		CHECK(fate == A(DELIVER) || fate == A(DISCARD) || fate == A(SEND_RST));
	else
		CHECK_EQ(v.acts & (A(DELIVER) | A(DISCARD)), 0);
	CHECK_EQ(v.acts >> NUM_VSP_ACTS, 0);
}

/* Payload is delivered, thrown away, or answered by a reset: never lost in silence. */
static void payload_has_one_fate(const void *arg)
{
	(void)arg;
	every_cell(payload_counted);
}

static void events_of_ops(const void *arg)
{
	(void)arg;
	CHECK_EQ(vsp_event_of(VSP_OP_REQUEST), VSP_EV_REQUEST);
	CHECK_EQ(vsp_event_of(VSP_OP_RESPONSE), VSP_EV_RESPONSE);
	CHECK_EQ(vsp_event_of(VSP_OP_RW), VSP_EV_DATA);
	CHECK_EQ(vsp_event_of(VSP_OP_CREDIT_UPDATE), VSP_EV_CREDIT_UPDATE);
	CHECK_EQ(vsp_event_of(VSP_OP_CREDIT_REQUEST), VSP_EV_CREDIT_REQUEST);
	CHECK_EQ(vsp_event_of(VSP_OP_INVALID), VSP_EV_VIOLATION);
	CHECK_EQ(vsp_event_of(NUM_VSP_OPS), VSP_EV_VIOLATION);
	/* Those two carry hints and have functions of their own. */
	CHECK_EQ(vsp_event_of(VSP_OP_SHUTDOWN), VSP_EV_VIOLATION);
	CHECK_EQ(vsp_event_of(VSP_OP_RST), VSP_EV_VIOLATION);
}

static void events_of_request(const void *arg)
{
	struct vsp_txc t = vsp_txc_init(1000);
	struct vsp_rxc r = vsp_rxc_init(1000);

	(void)arg;
	vsp_txc_update(&t, (struct vsp_stamp){ .buf_alloc = 1000 });
	vsp_rxc_stamp(&r);
	CHECK_EQ(vsp_event_of_request(&t, &r, 0, 0), VSP_EV_REQUEST_AGAIN);
	for (u32 hints = 0; hints <= VSP_SHUTDOWN_BOTH; hints++)
		for (u32 said = !hints; said <= VSP_SHUTDOWN_BOTH; said++)
			CHECK_EQ(vsp_event_of_request(&t, &r, hints, said), VSP_EV_REQUEST);
	CHECK(vsp_rxc_admit(&r, 1));
	CHECK_EQ(vsp_event_of_request(&t, &r, 0, 0), VSP_EV_REQUEST);
	vsp_rxc_consume(&r, 1);
	CHECK_EQ(vsp_event_of_request(&t, &r, 0, 0), VSP_EV_REQUEST);
	r = vsp_rxc_init(1000);
	CHECK_EQ(vsp_txc_take(&t, 1), 1);
	CHECK_EQ(vsp_event_of_request(&t, &r, 0, 0), VSP_EV_REQUEST);
}

static void events_of_shutdown(const void *arg)
{
	(void)arg;
	CHECK_EQ(vsp_event_of_shutdown(0, false), VSP_EV_SHUTDOWN_PART);
	CHECK_EQ(vsp_event_of_shutdown(VSP_SHUTDOWN_RCV, false), VSP_EV_SHUTDOWN_PART);
	CHECK_EQ(vsp_event_of_shutdown(VSP_SHUTDOWN_SEND, false), VSP_EV_SHUTDOWN_PART);
	CHECK_EQ(vsp_event_of_shutdown(VSP_SHUTDOWN_SEND, true), VSP_EV_SHUTDOWN_PART);
	CHECK_EQ(vsp_event_of_shutdown(VSP_SHUTDOWN_BOTH, true), VSP_EV_SHUTDOWN_UNREAD);
	CHECK_EQ(vsp_event_of_shutdown(VSP_SHUTDOWN_BOTH, false), VSP_EV_SHUTDOWN);
	/* Bits that have no meaning change nothing. */
	CHECK_EQ(vsp_event_of_shutdown(0xfffffffcu, false), VSP_EV_SHUTDOWN_PART);
	CHECK_EQ(vsp_event_of_shutdown(0xffffffffu, false), VSP_EV_SHUTDOWN);
}

static void events_of_rst(const void *arg)
{
	(void)arg;
	for (u32 hints = 0; hints <= VSP_SHUTDOWN_BOTH; hints++)
		for (u32 said = 0; said <= VSP_SHUTDOWN_BOTH; said++)
			CHECK_EQ(vsp_event_of_rst(hints, said),
				 (hints & VSP_SHUTDOWN_SEND) || said == VSP_SHUTDOWN_BOTH ? VSP_EV_RST_AFTER_END :
											    VSP_EV_RST);
}

/* The acts are performed in ascending bit order; these are the pairs whose order somebody relies on. */
static void acts_are_in_order(const void *arg)
{
	(void)arg;
	CHECK(A(HINT) < A(SEND_RST));
	CHECK(A(OPEN) < A(SEND_RESPONSE));
	CHECK(A(SEND_RST) < A(FORGET));
	CHECK(A(HANGUP) < A(FORGET));
	CHECK(A(FORGET) < A(AGAIN));
	CHECK_EQ(A(UNEXPECTED), 1u << (NUM_VSP_ACTS - 1));
}

static const struct check_case cases[] = {
	CASE(table_is_complete),  CASE(rst_never_answers_rst), CASE(peer_is_defined),	CASE(forgotten_once),
	CASE(timers_balance),	  CASE(payload_has_one_fate),  CASE(events_of_ops),	CASE(events_of_request),
	CASE(events_of_shutdown), CASE(events_of_rst),	       CASE(acts_are_in_order),
};

CHECK_SUITE(conn, cases);
CHECK_SUITE(conn_cells, cases_of_cells);
