// SPDX-License-Identifier: MIT
// TCP as a conn. One epoll_ctl per connection; TCP_NODELAY always.
#pragma once
#include "net/conn.h"

// A conn over an accepted, non-blocking socket; takes `fd`. The socket joins the loop with tcp_watch, so that
// its first bytes can be read before (they are usually there already). Fails with the fd closed.
struct conn *tcp_adopt(struct loop *loop, int fd);
// A failure is also told to the owner, as a peer that is gone: most callers need not look.
enum err tcp_watch(struct conn *c);

// Starts to connect. The first event decides: tcp_connect_result then gives OK or why not.
MUSTCHECK enum err tcp_connect(struct loop *loop, const struct address *to, struct conn **c);
MUSTCHECK enum err tcp_connect_result(struct conn *c);
