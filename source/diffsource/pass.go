package diffsource

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// pass compares the table with the state of the pass before, and writes the present one.
type pass struct {
	source *Source
	from   source.Cursor // the cursor of the last batch, at which the next Fetch must ask
	at     cursor        // decoded from
	now    cursor        // the cursor after the compared rows, except for its state
	whole  bool          // at is the end of another pass, so that without a difference the cursor need not move
	differ bool          // there was a difference

	pager
	keyTable table     // table, with the columns of the key alone
	snapshot *snapshot // nil if each batch is read alone
	base     *chain
	out      *writer

	unsure   map[sqlsource.Key]*delivery // keys of batches that were fetched, and perhaps delivered, but not saved
	compared bool                        // all rows and entries were
	left     []sqlsource.Key             // unsure keys that the pass has not met, to correct
	extra    []correction                // to deliver next

	inserts, deletes int // how many rows and entries at the heads have no partner
	verified         int // how many entries at the head were looked up
	present          map[sqlsource.Key]*standing

	unkeyed sqlsource.Key // the key of the change that step returns, if no row has it
	keys    []keyFor      // of the batch's changes

	kinds   []int // of the columns of the key
	columns *row.Columns
	keyOnly *row.Columns // of the key alone, for deleted rows
	index   []int        // of the key's columns, nil if the row does not have them
	names   []byte       // of the columns, for digests
	text    []byte       // a buffer
}

// run fills a batch.
func (p *pass) run(ctx context.Context, limit int, b *source.Batch[row.Change]) error {
	began, from, done := time.Now(), p.now.key, false
	pinned, read := 0, p.read-p.bytes // the first change whose row was not copied, and what was read before its page
	most := cmp.Or(p.source.Table.MaxBytes, sqlsource.DefaultMaxBytes)
	for len(b.Records) < limit && b.Bytes < most && !done {
		moved, asks := p.now.key != from || len(b.Records) > 0, len(p.rows) == 0 || p.deletes > 0 && p.verified == 0
		if moved && asks && time.Since(began) > p.source.tuning.scanFor {
			break
		}
		before := p.read
		c, bad, ended, err := p.step(ctx, len(b.Records) == 0)
		if p.read != before { // another page
			unpin(b.Records[pinned:], before-read)
			pinned, read = len(b.Records), before
		}
		switch {
		case err != nil:
			return err
		case bad != nil && bad.To == "" && len(b.Records) > 0:
			return p.end(b, false)
		case bad != nil:
			if err := p.end(b, false); err != nil {
				return err
			}
			return &source.BadRecord{Key: bad.Key, To: b.To, Err: bad.Err}
		case c.Op != 0:
			p.differ = true
			if p.unkeyed != "" {
				p.keys = append(p.keys, keyFor{len(b.Records), p.unkeyed})
				b.Bytes += len(p.unkeyed)
				p.unkeyed = ""
			}
			b.Records = append(b.Records, c)
			b.Bytes += c.Size()
		}
		done = ended
	}
	return p.end(b, done)
}

// end makes the state of the compared rows durable, and moves the cursor.
func (p *pass) end(b *source.Batch[row.Change], done bool) error {
	s := p.source
	if err := p.fillKeys(b.Records); err != nil {
		return err
	}
	p.now.replica = s.replica
	if done && p.whole && !p.differ {
		p.now.complete = true
		s.quiet = quiet{p.from, time.UnixMilli(p.now.began), p.now.asOf()}
		b.AsOf, b.Position = s.quiet.asOf, p.at.position()
		p.discard()
		return nil
	}
	place, err := p.out.sync()
	if err != nil {
		return fmt.Errorf("diffsource: %s: write the state: %w", s.Dir, err)
	}
	p.now.state, p.now.entries, p.now.complete = place, p.out.entries(), done
	b.To = p.now.encode(identity(s.Table))
	if err := b.To.Validate(); err != nil {
		return fmt.Errorf("diffsource: %w", err)
	}
	b.More, b.AsOf, b.Position = !done, p.now.asOf(), p.now.position()
	p.from, p.at, p.whole = b.To, p.now, false
	if done {
		s.drop()
	}
	return nil
}

// discard ends a pass that has found nothing, and removes its state.
func (p *pass) discard() {
	created := p.out.file != nil
	p.source.drop()
	if created {
		_ = p.source.store.dir.Remove(p.out.name) // otherwise it is removed with the state of old passes
	}
}

// close gives up what the pass holds. A segment that no cursor names is removed.
func (p *pass) close() {
	unused := p.out.file != nil && p.out.synced == 0
	p.snapshot.end()
	_ = p.base.close()
	_ = p.out.close() // it was synced, or is not used
	if unused {
		_ = p.source.store.dir.Remove(p.out.name) // otherwise it is removed with the state of old passes
	}
}

// step compares the next row and the next entry. It returns the change, if they differ, or why the row
// cannot be read. The To of such an error is empty.
func (p *pass) step(ctx context.Context, first bool) (c row.Change, bad *source.BadRecord, done bool, err error) {
	if len(p.rows) == 0 {
		if err = p.renew(ctx); err != nil {
			return c, nil, false, err
		}
	}
	if err = p.fillRows(ctx, 1); err != nil {
		return c, nil, false, err
	}
	more, err := p.base.fill(1)
	if err != nil {
		return c, nil, false, err
	}
	switch {
	case len(p.rows) == 0 && !more:
		c, err = p.correct(ctx)
		return c, nil, c.Op == 0, err
	case p.deletes > 0 || len(p.rows) == 0:
		c, err = p.remove(ctx)
		return c, nil, false, err
	case p.inserts > 0 || !more:
		c, bad, err = p.add(nil, first)
		return c, bad, false, err
	}
	r, e := &p.rows[0], p.base.queue[0]
	order, known := r.key.Compare(e.key)
	switch {
	case !known:
		p.deletes, p.inserts, err = p.align(ctx)
	case order == 0:
		c, bad, err = p.add(&e, first)
	case order < 0:
		c, bad, err = p.add(nil, first)
	default:
		c, err = p.remove(ctx)
	}
	return c, bad, false, err
}

// add compares the first row with its entry, nil if it has none.
func (p *pass) add(e *entry, first bool) (c row.Change, bad *source.BadRecord, err error) {
	r := p.rows[0]
	now := entry{key: r.key}
	if r.bad == nil {
		now.digest = p.digest(r.row)
	}
	d := p.unsure[r.key]
	if d.matches(now.digest) || r.bad != nil {
		d = nil
	}
	if same := e != nil && e.digest == now.digest && d == nil; !same {
		switch {
		case r.bad != nil && !first: // the changes before it come first
			return c, &source.BadRecord{Key: r.bad.Key, Err: r.bad.Err}, nil
		case r.bad != nil:
			bad, p.differ = r.bad, true
		default:
			c = row.Change{Op: p.op(e, d), Table: p.source.Table.Name, Row: r.row}
			if p.index == nil {
				p.unkeyed = r.key
			}
		}
	}
	delete(p.unsure, r.key)
	if err := p.out.add(now, c.Op != 0); err != nil {
		return c, nil, fmt.Errorf("diffsource: %s: write the state: %w", p.source.Dir, err)
	}
	if e != nil {
		p.take()
	} else if p.inserts > 0 {
		p.inserts--
	}
	p.now.key, p.rows = r.key, p.rows[1:]
	return c, bad, nil
}

// op returns the kind of a change. With d the sink can have another version than that of the entry.
func (p *pass) op(e *entry, d *delivery) row.Op {
	switch {
	case p.now.pass == 1, e != nil && e.digest == digest{}, d != nil: // the sink may have the row
		return row.Upsert
	case e == nil:
		return row.Insert
	}
	return row.Update
}

// remove delivers that the row of the first entry is gone.
func (p *pass) remove(ctx context.Context) (c row.Change, err error) {
	e := p.base.queue[0]
	stale := false
	if !e.key.Ordered() {
		if stale, err = p.isStale(ctx, e.key); err != nil {
			return c, err
		}
	}
	if p.deletes > 0 {
		p.deletes--
	}
	p.take()
	if stale {
		return c, nil
	}
	delete(p.unsure, e.key)
	if err := p.writeDeleted(e.key); err != nil {
		return c, err
	}
	p.unkeyed = e.key
	return row.Change{Op: row.Delete, Table: p.source.Table.Name}, nil
}

func (p *pass) writeDeleted(key sqlsource.Key) error {
	if err := p.out.delete(key); err != nil {
		return fmt.Errorf("diffsource: %s: write the state: %w", p.source.Dir, err)
	}
	return nil
}

func (p *pass) take() {
	p.base.pop(1)
	p.now.taken++
	p.verified = max(p.verified-1, 0)
}

// digest returns the digest of a row.
func (p *pass) digest(r row.Row) digest {
	p.use(r.Columns())
	p.text = r.AppendCells(append(p.text[:0], p.names...))
	sum := sha256.Sum256(p.text)
	return digest(sum[:len(digest{})])
}
