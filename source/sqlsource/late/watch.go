package late

import (
	"context"

	"github.com/artifactofdevotion/devotion/source"
)

// watch has a window over a table and reads the table's keys for it.
type watch struct {
	table interface {
		Keys(ctx context.Context, after, to source.Cursor, max int) ([]source.Cursor, error)
		Adopt(c source.Cursor) (source.Cursor, error)
	}
	rows   int
	window *window
}

func newWatch[T any](t Table[T], rows int) *watch {
	return &watch{table: t, rows: rows, window: newWindow("")}
}

// begin forgets all keys. The count of unchecked keys stays.
func (w *watch) begin(at source.Cursor) {
	unchecked := w.window.unchecked
	w.window = newWindow(at)
	w.window.unchecked = unchecked
}

// passed takes note of a batch of rows between two cursors. It returns how many
// more rows the table has there: late rows whose keys are not known.
func (w *watch) passed(ctx context.Context, from, to source.Cursor, rows int) (unnamed int, err error) {
	// The cursor of a key is the same text in any history only after Adopt.
	if from, err = w.table.Adopt(from); err != nil {
		return 0, err
	}
	if to, err = w.table.Adopt(to); err != nil {
		return 0, err
	}
	if !w.window.cut(from) {
		w.begin(from)
	}
	if rows == 0 {
		if to != from { // the source has skipped rows
			w.begin(to)
		}
		return 0, nil
	}
	for at := from; ; {
		keys, err := w.table.Keys(ctx, at, to, pageKeys)
		if err != nil {
			w.window.spans = append(w.window.spans, span{to: to, unread: true})
			return 0, err
		}
		rows -= len(keys)
		if len(keys) < pageKeys {
			w.window.add(keys, to)
			break
		}
		at = keys[len(keys)-1]
		w.window.add(keys, at)
	}
	w.window.trim(w.rows)
	return max(-rows, 0), nil
}

// check checks about as many keys as budget says, and returns the late ones.
// done says that the whole window has been checked.
func (w *watch) check(ctx context.Context, budget int) (late []source.Cursor, done bool, err error) {
	win := w.window
	for ; win.next < len(win.spans) && budget > 0; budget-- {
		after, to := win.bounds(win.next)
		keys, err := w.table.Keys(ctx, after, to, pageKeys)
		if err != nil {
			return late, false, err
		}
		late = append(late, win.check(keys)...)
		budget -= len(keys)
	}
	done = win.next == len(win.spans)
	if done {
		win.next = 0
	}
	win.trim(w.rows)
	return late, done, nil
}
