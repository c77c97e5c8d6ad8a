package pglog

import (
	"context"
	"fmt"
	"time"

	"github.com/artifactofdevotion/devotion/source"
)

const (
	// The slot is advanced now and then, because the server reads its log for it.
	releaseEvery = 5 * time.Second
	releaseBytes = 1 << 20

	closeLimit = 5 * time.Second
)

// Saved tells the source that a cursor was saved, so that the server need not keep the log before it. It returns at
// once. Call it from the Poller's hook:
//
//	hooks := poller.Hooks{Poll: func(i poller.PollInfo) { src.Saved(i.To) }}
func (s *Source) Saved(c source.Cursor) {
	at, err := decodeCursor(c)
	if err != nil {
		return
	}
	if at.copying {
		at = cursor{}
	}
	s.savedLock.Lock()
	s.saved = at
	s.savedLock.Unlock()
}

// rewound forgets a saved cursor that is after the one that is fetched from: the pipeline was rewound, and the log
// between the two must be kept until it is saved again.
func (s *Source) rewound(at cursor) {
	s.savedLock.Lock()
	defer s.savedLock.Unlock()
	if at.copying || at.at < s.saved.at || at.at == s.saved.at && at.n < s.saved.n {
		s.saved = cursor{}
	}
}

// release returns the position to advance the slot to, 0 if it is not due. The next stream does it before it decodes.
func (s *Source) release(v *server, at cursor) lsn {
	s.slot = v.slot.confirmed
	s.savedLock.Lock()
	saved := s.saved
	s.savedLock.Unlock()
	due := time.Since(s.released) >= releaseEvery || saved.at > s.slot+releaseBytes
	if saved.origin != at.origin || saved.at <= s.slot || saved.at > at.at || !due {
		return 0
	}
	s.released = time.Now()
	if saved.n == 0 { // otherwise the server decodes the transaction again
		s.passed = 0
	}
	return saved.at
}

// advanceFirst advances the slot before a stream decodes. The server may read much of its log for it, so it has the
// limit of a stream, and not that of a Fetch. A failure does not keep the stream from reading.
func (s *Source) advanceFirst(ctx context.Context, st *stream, to lsn) {
	ctx, cancel := context.WithTimeout(ctx, streamLimit)
	defer cancel()
	done, err := s.advance(ctx, to)
	if done {
		st.confirmed = to
	}
	if err != nil && st.ctx.Err() == nil {
		s.logger().WarnContext(ctx, "slot not advanced", "slot", s.Slot, "err", err)
	}
}

// Close ends the open statements, and returns their connections to the pool. It advances the slot to the saved
// cursor, unless another process has advanced it. The Source can be used again.
func (s *Source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeStream()
	s.endCopy()
	s.savedLock.Lock()
	saved := s.saved
	s.savedLock.Unlock()
	if s.slot == 0 || saved.at <= s.slot {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	v, err := s.ask(ctx)
	if err == nil && v.slot != nil && v.slot.confirmed == s.slot && s.origin(v) == saved.origin {
		_, err = s.advance(ctx, saved.at)
	}
	if err != nil {
		return fmt.Errorf("pglog: advancing the slot: %w", err)
	}
	return nil
}
