package ceiling

import (
	"fmt"
	"math/bits"
	"strings"
)

// The model's writers each work through a script, in which every letter is a
// step that others can come between. What Postgres does with an INSERT through
// a partitioned table is "pd1i": it locks the parent, draws the id, locks the
// partition and writes the row.
const (
	opParent    = 'p' // lock the table
	opLeaf1     = '1' // lock a partition
	opLeaf2     = '2'
	opDraw      = 'd' // nextval: locks the sequence to the end of the transaction
	opXID       = 'x' // get a transaction id, as by a write elsewhere
	opInsert    = 'i' // write a row for each id in hand; gets a transaction id
	opSavepoint = 's'
	opRollback  = 'r' // to the savepoint
	opCommit    = 'c' // on disk, and visible to snapshots from now on
	opAsync     = 'v' // the same with synchronous_commit=off: on disk some time later
	opRelease   = 'u' // the locks of what is committed, and the transaction's end
	opAbort     = 'a'
	opPrepare   = 'P'
	opFinish    = 'C' // COMMIT PREPARED: visible
	opCancel    = 'A' // ROLLBACK PREPARED
)

// noBackend begins the id of a prepared transaction that is not that of the session
// which prepared it.
const noBackend = "-1/"

const (
	maxSessions = 5
	maxIDs      = 32
)

// Locks of a transaction.
const (
	parent = 1 << iota
	leaf1
	leaf2
	sequence
	everything = parent | leaf1 | leaf2 | sequence
)

// session is a writer's connection, with the transaction it is in.
type session struct {
	at         int8 // in its script
	backend    int8 // the two parts of its virtual transaction id
	local      int8
	xid        int8 // 0: none so far
	locks      uint8
	savedLocks uint8
	prepared   bool
	gid        int8   // tells prepared transactions apart
	survivor   bool   // of a restart
	committed  bool   // and not released
	hand       uint32 // ids drawn and not written
	rows       uint32 // ids written
	savedRows  uint32
}

// database is what all see. A set of ids is a mask.
type database struct {
	old bool // shows prepared transactions under another id at once

	seq     int8
	visible uint32
	xids    [maxIDs]int8 // of the rows
	nextXID int8

	lsn     int8 // the end of the log
	flushed int8 // what of it is on disk, with the three below
	onDisk  uint32
	seqDisk int8
	xidDisk int8

	boot     int8
	sessions [maxSessions]session
}

func newDatabase(n int, old bool) database {
	d := database{old: old, nextXID: 1, xidDisk: 1}
	for i := range n {
		d.sessions[i] = session{backend: int8(i + 1), local: 1}
	}
	return d
}

func (d *database) flush() {
	d.flushed, d.onDisk, d.seqDisk, d.xidDisk = d.lsn, d.visible, d.seq, d.nextXID
}

// step does the next step of a writer's script. It returns the rows that become
// visible by it.
func (d *database) step(i int, script string) (shown uint32) {
	s := &d.sessions[i]
	op := script[s.at]
	s.at++
	switch op {
	case opParent:
		s.locks |= parent
	case opLeaf1:
		s.locks |= leaf1
	case opLeaf2:
		s.locks |= leaf2
	case opDraw:
		s.locks |= sequence
		s.hand |= 1 << d.seq
		d.seq++
		d.lsn++
	case opXID:
		d.identify(s)
	case opInsert:
		d.identify(s)
		for ids := s.hand; ids != 0; ids &= ids - 1 {
			d.xids[bits.TrailingZeros32(ids)] = s.xid
		}
		s.rows |= s.hand
		s.hand = 0
	case opSavepoint:
		s.savedLocks, s.savedRows = s.locks, s.rows
	case opRollback:
		s.locks = s.savedLocks | s.locks&sequence
		s.rows = s.savedRows
	case opCommit, opFinish, opAsync:
		shown = s.rows
		d.visible |= s.rows
		s.committed = true
		d.lsn++
		if op != opAsync {
			d.flush()
		}
	case opPrepare:
		s.prepared, s.gid = true, s.at
		d.lsn++
		d.flush()
	case opRelease, opAbort, opCancel:
		d.end(s)
	default:
		panic(fmt.Sprintf("no such step: %c", op))
	}
	return shown
}

func (d *database) identify(s *session) {
	if s.xid == 0 {
		s.xid = d.nextXID
		d.nextXID++
	}
}

func (d *database) end(s *session) {
	*s = session{at: s.at, backend: s.backend, local: s.local + 1}
}

// restart ends every transaction that is not prepared. Virtual ids are given again, to others. A
// crash loses commits that were not on disk: it returns the rows that are gone.
func (d *database) restart(scripts []string, crash bool) (gone uint32) {
	if !crash {
		d.flush()
	}
	gone = d.visible &^ d.onDisk
	d.visible, d.seq, d.nextXID, d.lsn = d.onDisk, d.seqDisk, d.xidDisk, d.flushed
	d.boot++
	n := len(scripts)
	for i := range scripts {
		s := &d.sessions[i]
		fresh := session{at: s.at, backend: int8((int(s.backend) % n) + 1), local: 1}
		switch {
		case s.prepared && !s.committed:
			s.survivor = true
			s.backend, s.local = fresh.backend, 0 // of the session; the transaction's are gone
		case s.committed:
			fresh.at = s.at + 1
			*s = fresh
		case s.begun():
			fresh.at += int8(strings.IndexAny(scripts[i][s.at:], "uaA") + 1)
			*s = fresh
		default:
			*s = fresh
		}
	}
	return gone
}

func (s *session) begun() bool {
	return s.locks != 0 || s.xid != 0 || s.hand != 0 || s.rows != 0
}

// id is how pg_locks shows the transaction. xids name it for good.
func (d *database) id(i int) string {
	s := &d.sessions[i]
	if s.survivor || d.old && s.prepared {
		return fmt.Sprintf("%s%d.%d", noBackend, i, s.gid)
	}
	return fmt.Sprintf("%d/%d", s.backend, s.local)
}

// locks lists those who hold one of the locks in which.
func (d *database) locks(which uint8) map[string]*Holder {
	list := map[string]*Holder{}
	for i := range d.sessions {
		s := &d.sessions[i]
		if s.locks&which == 0 {
			continue
		}
		h := &Holder{Session: int64(i + 1), Prepared: s.prepared}
		if s.prepared {
			h.Session = 0
		}
		id := d.id(i)
		h.Inherits = strings.HasPrefix(id, noBackend)
		list[id] = h
	}
	return list
}

// snapshotXmin is the oldest transaction id in progress.
func (d *database) snapshotXmin() int8 {
	oldest := d.nextXID
	for _, s := range d.sessions {
		if s.xid != 0 && !s.committed {
			oldest = min(oldest, s.xid)
		}
	}
	return oldest
}
