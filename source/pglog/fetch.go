package pglog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

const (
	// idleBytes is the length of log without changes after which an empty batch moves the cursor.
	idleBytes = 16 << 20

	// patience is how long a Fetch waits for the server to decode, at most.
	patience = 10 * time.Second

	// listEvery is how often the tables of the publication are read.
	listEvery = 5 * time.Second
)

// idle says that nothing follows a cursor in the log up to a position.
type idle struct {
	after source.Cursor
	upTo  lsn
}

// fetch does the work of Fetch. The caller closes the stream after an error.
func (s *Source) fetch(ctx context.Context, after source.Cursor, at cursor, limit int) (b source.Batch[row.Change], err error) {
	s.rewound(at)
	if st := s.stream; st != nil && after != "" && !at.copying && st.given.encode() == after {
		st.follow(ctx)
		return s.collect(ctx, after, limit)
	}
	s.closeStream()
	v, err := s.state(ctx, after, at)
	if err != nil {
		return b, err
	}
	if at.copying || after == "" && !s.SkipCopy {
		return s.fetchCopy(ctx, v, at, limit)
	}
	s.endCopy()
	if after == "" {
		at = cursor{origin: s.origin(v), position: position{at: v.slot.confirmed}}
	}
	to := s.release(v, at)
	if to == 0 && s.idle == (idle{after, v.flushed}) {
		b.To, b.AsOf = after, s.fresh.read(v)
		return b, nil
	}
	if err := s.begin(ctx, v, at, to); err != nil {
		return b, err
	}
	return s.collect(ctx, after, limit)
}

// state asks for the state of the server, and creates the slot before the first batch.
func (s *Source) state(ctx context.Context, after source.Cursor, at cursor) (*server, error) {
	v, err := s.ask(ctx)
	if err == nil {
		err = s.usable(v)
	}
	switch {
	case err != nil:
	case after != "":
		err = s.continues(v, at)
	case v.slot == nil:
		if err = s.create(ctx, v); err == nil {
			v, err = s.ask(ctx)
		}
		if err == nil && v.slot == nil {
			err = errors.New("the slot that was created does not exist")
		}
		if err == nil { // another process may have created a slot of that name
			err = s.usable(v)
		}
	}
	if err == nil {
		s.pinned = v.pinned()
	}
	return v, err
}

// begin begins to decode after a cursor. It advances the slot first, unless to is 0.
func (s *Source) begin(ctx context.Context, v *server, at cursor, to lsn) error {
	if err := s.list(ctx); err != nil {
		return err
	}
	size := 1 << min(s.scale, 12)
	upTo := min(v.flushed, max(at.at, v.slot.confirmed, to)+lsn(reach*size))
	s.stream = s.open(v, at, upTo, window*size<<s.growth+s.passed, to)
	s.stream.follow(ctx)
	return nil
}

// list reads the tables of the publication, now and then, and logs how they changed.
func (s *Source) list(ctx context.Context) error {
	if time.Since(s.listed) < listEvery {
		return nil
	}
	tables, err := s.readTables(ctx)
	if err == nil {
		err = identified(tables)
	}
	if err != nil {
		return err
	}
	if added, removed := missing(s.tables, tables), missing(tables, s.tables); !s.listed.IsZero() && (added != nil || removed != nil) {
		s.logger().WarnContext(ctx, "published tables changed", "publication", s.Publication, "added", added, "removed", removed,
			"fix", "nothing, if that was intended; the rows that an added table had by then, and later changes of a removed one, are not delivered")
	}
	s.tables, s.listed = tables, time.Now()
	return nil
}

// missing returns the names of tables that are not in from.
func missing(from, tables []table) (names []string) {
	for _, t := range tables {
		if !slices.ContainsFunc(from, func(f table) bool { return f.id == t.id }) {
			names = append(names, t.label())
		}
	}
	return names
}

// next returns the next change. When a stream ends before the end of the log, it begins another one.
func (s *Source) next(ctx context.Context, late time.Time) (*message, error) {
	for {
		st := s.stream
		if err := st.wait(ctx, late); err != nil {
			return nil, err
		}
		m, err := st.next(ctx)
		switch {
		case err == nil:
			s.scale = 0
			return m, nil
		case st.expired() && ctx.Err() == nil: // go on after the last change that was taken
			st.now = st.given
		case !errors.Is(err, errEnded):
			return nil, err
		case st.count < st.limit: // the server stopped because it had decoded the whole log
			if st.now.at < st.upTo {
				st.now.passed(st.upTo)
			}
			if st.upTo == st.server.flushed {
				return nil, errEnded
			}
		}
		switch {
		case !st.news:
			s.scale++
		case st.count < st.limit || time.Since(st.first) > growLimit:
			s.growth = 0
		default: // each window begins with the log since restart_lsn
			s.growth = min(s.growth+1, maxGrowth)
		}
		at, given := st.now, st.given
		s.passed = st.count
		s.closeStream()
		v, err := s.state(ctx, at.encode(), at)
		if err == nil { // the slot is advanced so that the server does not decode saved changes again
			err = s.begin(ctx, v, at, s.release(v, given))
		}
		if err != nil {
			return nil, err
		}
		if time.Now().After(late) {
			return nil, errBusy
		}
	}
}

// waitUntil returns when a Fetch stops to wait for the server, and says so: well before its own deadline.
func waitUntil(ctx context.Context) time.Time {
	wait := patience
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline)/2)
	}
	return time.Now().Add(wait)
}

var errBusy = errors.New("the server is still decoding")

// collect takes changes from the stream until the batch is complete.
func (s *Source) collect(ctx context.Context, after source.Cursor, limit int) (b source.Batch[row.Change], err error) {
	late := waitUntil(ctx)
	defer func() {
		if s.stream != nil {
			s.stream.leave()
		}
	}()
	var entries []entry
	for {
		m, err := s.next(ctx, late)
		if err == nil && s.fits(&b, m, len(entries), limit) {
			if len(m.body) > s.maxRow() {
				s.stream.take()
				return b, tooLarge(m)
			}
			e, err := s.take(&b, m)
			if err != nil {
				return b, err
			}
			entries = append(entries, e)
			continue
		}
		switch {
		case err == nil:
			b.To, b.More = s.stream.given.encode(), true
		case errors.Is(err, errEnded):
			v := s.stream.server
			if s.drained(&b, after, len(entries) > 0); len(entries) == 0 {
				s.mark(ctx, v)
			}
		case errors.Is(err, errBusy):
			b.To = s.stream.given.encode()
			b.Held = &source.Held{Since: s.stream.since, Retry: time.Second, By: []string{"the server, which is decoding its log"}}
		default:
			return b, err
		}
		break
	}
	b.Records = changes(entries)
	if n := len(entries); n > 0 {
		b.Position = entries[n-1].tx.position
	}
	return b, nil
}

// fits reports whether another change belongs to the batch.
func (s *Source) fits(b *source.Batch[row.Change], m *message, n, limit int) bool {
	return n == 0 || n < limit && len(m.body) <= s.maxRow() && b.Bytes+len(m.body) <= cmp.Or(s.MaxBytes, sqlsource.DefaultMaxBytes)
}

func (s *Source) maxRow() int { return cmp.Or(s.MaxRowBytes, sqlsource.DefaultMaxRowBytes) }

func tooLarge(m *message) error {
	return &source.BadRecord{Key: fmt.Sprintf("change %d of transaction %s at %s, of %s", m.after.n, m.tx.id, m.tx.position, m.rel.table), To: m.after.encode(),
		Err: fmt.Errorf("the change has %d bytes, more than MaxRowBytes", len(m.body))}
}

// take reads the pending change into the builders of its table.
func (s *Source) take(b *source.Batch[row.Change], m *message) (e entry, err error) {
	size := 0
	e = entry{relation: m.rel, op: row.Truncate, row: -1, old: -1, key: -1, tx: m.tx}
	if m.kind != msgTruncate {
		e, size, err = m.rel.add(m)
	}
	b.Bytes += size
	s.stream.take()
	return e, err
}

// drained ends a batch at the end of the log.
func (s *Source) drained(b *source.Batch[row.Change], after source.Cursor, records bool) {
	st := s.stream
	b.To, b.AsOf = after, s.fresh.read(st.server)
	if records || st.now.at >= st.from.at+idleBytes {
		b.To = st.now.encode()
	}
	s.growth = 0
	s.idle, s.passed = idle{b.To, st.server.flushed}, st.count
	s.closeStream()
}

func (s *Source) closeStream() {
	if st := s.stream; st != nil {
		st.leave()
		st.close()
		s.slot, s.stream = max(s.slot, st.confirmed), nil
	}
}

// freshness finds the time before which every committed change has been read. The changes of an asynchronous
// commit that is not on disk yet are not decoded.
type freshness struct {
	at      time.Time // before the log was written up to here
	written lsn
	asOf    time.Time
}

// read returns AsOf of a batch that ends where the log was on disk.
func (f *freshness) read(v *server) time.Time {
	switch {
	case v.flushed >= v.written.onPage():
		*f = freshness{asOf: v.at}
	case f.written == 0 || v.flushed >= f.written:
		if f.written != 0 {
			f.asOf = f.at
		}
		f.at, f.written = v.at, v.written.onPage()
	}
	return f.asOf
}

// shape returns the columns of a table, by the message that describes it.
func (s *Source) shape(ctx context.Context, l layout, message string) (found *shape, err error) {
	if known := s.shapes[message]; known != nil && (l.identity != 'f' || time.Since(known.found) < time.Minute) {
		return known, nil
	}
	err = s.with(ctx, func(db session) error {
		found, err = newShape(ctx, db, l)
		return err
	})
	if len(s.shapes) > 10_000 || s.shapes == nil {
		s.shapes = map[string]*shape{}
	}
	s.shapes[message] = found
	return found, err
}
