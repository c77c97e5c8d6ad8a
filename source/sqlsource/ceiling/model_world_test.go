package ceiling

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"
)

// scene is what a run of the model begins with.
type scene struct {
	scripts  []string
	old      bool  // see database
	restarts int8  // of the server
	async    bool  // what is not on disk is lost by a restart
	noticed  bool  // a restart can be told
	polls    int8  // after which the reader rests until all writers have ended
	lowest   int64 // the first key
	full     bool  // see fillFences
	variant
}

func (s scene) String() string {
	text := strings.Join(s.scripts, " ")
	for _, is := range []struct {
		it   bool
		text string
	}{{s.old, "old server"}, {s.async, "asynchronous commit"}, {s.restarts > 0, fmt.Sprint(s.restarts, " restarts")}, {s.restarts > 0 && !s.noticed, "unnoticed"}, {s.full, "as many fences as can wait"}} {
		if is.it {
			text += ", " + is.text
		}
	}
	return text
}

// world is a state of the model.
type world struct {
	*scene
	db       database
	reader   reader
	restarts int8 // so far
}

func newWorld(s *scene) world {
	w := world{scene: s, db: newDatabase(len(s.scripts), s.old), reader: newReader(s.variant)}
	if s.full {
		w.fillFences()
	}
	for i := range s.scripts {
		w.fold(i)
	}
	return w
}

// fillFences has the last writer hold a lock since long ago, so that as many
// fences wait as can.
func (w *world) fillFences() {
	last := len(w.scripts) - 1
	w.scripts[last] = string([]byte{opParent, opAbort})
	w.db.step(last, w.scripts[last])
	for range MaxFences {
		w.reader.fences.Set(math.MinInt64, time.Time{}, w.db.locks(everything))
	}
}

// key is the key of a row: its id or, for a reader of transaction ids, its transaction id and
// its id.
func (w *world) key(i int) int64 {
	if w.byXID {
		return firstKey(w.db.xids[i]) + int64(i)
	}
	return w.lowest + int64(i)
}

// firstKey is the smallest key of a transaction's rows.
func firstKey(xid int8) int64 { return int64(xid) * maxIDs }

// upTo is the set of all ids up to a key.
func (w *world) upTo(key int64) uint32 {
	if w.byXID {
		var ids uint32
		for i, xid := range w.db.xids {
			if xid != 0 && w.key(i) <= key {
				ids |= 1 << i
			}
		}
		return ids
	}
	if key < w.lowest {
		return 0
	}
	if key >= w.lowest+maxIDs-1 {
		return math.MaxUint32
	}
	return 1<<(key-w.lowest+1) - 1
}

// The moves of a world: a writer's by its number, and these.
const (
	moveReader = maxSessions + iota
	moveFlush
	moveRestart
	moves

	// In random schedules only.
	moveReopen = maxSessions + iota // the poller is restarted
	moveRewind                      // its cursor is set back
)

func (w *world) ended(i int) bool { return int(w.db.sessions[i].at) >= len(w.scripts[i]) }

func (w *world) allEnded() bool {
	for i := range w.scripts {
		if !w.ended(i) {
			return false
		}
	}
	return true
}

func (w *world) can(move int) bool {
	switch move {
	case moveReader:
		return w.reader.polls < w.polls
	case moveFlush:
		return w.async && w.db.flushed < w.db.lsn
	case moveRestart:
		return w.restarts < w.scene.restarts
	}
	return move < len(w.scripts) && !w.ended(move)
}

// do makes a move, and returns what is wrong after it.
func (w *world) do(move int) (wrong string) {
	switch move {
	case moveReader:
		if w.reader.step(w) {
			w.reader.polls++
		}
	case moveFlush:
		w.db.flush()
	case moveRestart:
		w.restarts++
		if w.db.restart(w.scripts, w.async)&w.reader.delivered != 0 {
			return "rows were read that a crash took back"
		}
		w.reader.cut(w.variant)
	case moveReopen:
		r := newReader(w.variant)
		r.cursor, r.delivered = w.reader.cursor, w.reader.delivered
		w.reader = r
	case moveRewind:
		w.reader.cut(w.variant)
		w.reader.reached = false
		if w.reader.cursor != math.MinInt64 {
			w.reader.cursor -= maxRows
		}
	default:
		if w.db.step(move, w.scripts[move])&w.upTo(w.reader.cursor) != 0 {
			return "a row came up behind the cursor"
		}
		w.fold(move)
	}
	return ""
}

// seesXIDs says that transaction ids matter to the reader.
func (s *scene) seesXIDs() bool { return s.xmin || s.xminFence || s.byXID }

// fold does a writer's steps that nobody can see at once, so that schedules which
// differ in their places alone are one.
func (w *world) fold(writer int) {
	for !w.seesXIDs() && !w.ended(writer) && strings.IndexByte("six", w.scripts[writer][w.db.sessions[writer].at]) >= 0 {
		w.db.step(writer, w.scripts[writer])
	}
}

func (w *world) name(move int) string {
	switch move {
	case moveReader:
		return [...]string{"max", "locks", "mark", "read"}[w.reader.pc]
	case moveFlush:
		return "flush"
	case moveRestart:
		return "restart"
	case moveReopen:
		return "reopen"
	case moveRewind:
		return "rewind"
	}
	return fmt.Sprintf("%d%c", move+1, w.scripts[move][w.db.sessions[move].at])
}

// drain lets the reader go on when all writers have ended, and returns what is
// wrong if there are rows that it does not read, or not soon.
func (w *world) drain() (wrong string) {
	left := bits.OnesCount32(w.db.visible &^ w.reader.delivered)
	// One poll may go to the rest of a ceiling, one to waiting for the disk.
	for polls := 3 + left; polls > 0 && w.db.visible&^w.reader.delivered != 0; polls-- {
		w.db.flush()
		for !w.reader.step(w) {
		}
	}
	if w.db.visible&^w.reader.delivered != 0 {
		return "rows are not read when all have ended"
	}
	return ""
}

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

// hash is the same for states that have the same futures.
func (w *world) hash(b []byte) ([2]uint64, []byte) {
	d, r := &w.db, &w.reader
	b = append(b[:0], byte(d.seq), byte(d.boot), byte(w.restarts), byte(r.polls), byte(r.pc), byte(r.boot))
	sets := []uint32{d.visible, r.delivered}
	if w.async {
		b = append(b, byte(d.lsn), byte(d.flushed), byte(d.seqDisk), byte(d.xidDisk), byte(r.mark), byte(r.reachBoot), bit(r.durable))
		sets = append(sets, d.onDisk)
	}
	for i := range w.scripts {
		s := &d.sessions[i]
		b = append(b, byte(s.at), byte(s.backend), byte(s.local), byte(s.gid), s.locks, s.savedLocks, bit(s.prepared)|bit(s.survivor)<<1|bit(s.committed)<<2)
		sets = append(sets, s.hand, s.rows, s.savedRows)
		if w.seesXIDs() {
			b = append(b, byte(s.xid), byte(d.nextXID), byte(r.xmax))
		}
	}
	if w.xmin || w.byXID {
		for _, x := range d.xids {
			b = append(b, byte(x))
		}
	}
	if w.oneSnapshot {
		sets = append(sets, r.snapshot)
	}
	for _, s := range sets {
		b = binary.LittleEndian.AppendUint32(b, s)
	}
	keys := []int64{r.cursor, r.settled}
	if r.pc == readLocks || w.listFirst {
		keys = append(keys, r.high)
	}
	if r.reached || r.pc == readMark {
		keys = append(keys, r.limit)
	}
	for _, k := range keys {
		b = binary.LittleEndian.AppendUint16(b, uint16(max(k, w.lowest-1)-w.lowest))
	}
	b = append(b, bit(r.reached))
	b = appendHolders(b, r.fences, r.fences.holders)
	b = appendHolders(b, r.fences, r.list)
	for _, f := range append(slices.Clip(r.fences.waiting), r.passing...) {
		b = append(b, byte(f.high-w.lowest))
	}
	for _, f := range r.passing {
		b = append(b, byte(f.number))
	}
	return [2]uint64{maphash.Bytes(seeds[0], b), maphash.Bytes(seeds[1], b)}, b
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// appendHolders appends holders, each with the first fence that it holds back; the numbers of
// fences are ignored.
func appendHolders(b []byte, f *Fences[int64], holders map[string]*Holder) []byte {
	var ids []string
	for id := range holders {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		h := holders[id]
		first := 0
		for first < len(f.waiting) && f.waiting[first].number < h.first {
			first++
		}
		b = binary.LittleEndian.AppendUint16(append(b, id...), uint16(first))
		b = append(b, bit(h.Inherits))
	}
	return append(b, '/')
}
