package xminsource

// modelDeletes is what the reader knows of deletes. A restart forgets what is not in the cursor.
type modelDeletes struct {
	known   [modelKeys]bool // delivered and not deleted since; in the cursor
	missing []int           // keys that a key pass has missed; in the cursor

	reading bool // a key pass reads keys
	next    int  // the next one
	shown   [modelKeys]bool
	looked  *modelLook

	deleted [modelKeys]bool // of the sink: its last change is a delete
}

// modelLook is a look at a key. It waits until the log is on disk.
type modelLook struct {
	key    int
	absent bool
	mark   int
	boot   int
}

// restart forgets the read of the keys.
func (d *modelDeletes) restart() { d.reading, d.looked = false, nil }

// stepDeletes is one statement of a key pass. It is false if there is nothing to do.
func (r *reader) stepDeletes() bool {
	d := &r.deletes
	switch {
	case d.looked != nil:
		r.deliverDelete()
	case len(d.missing) > 0:
		key := d.missing[0]
		d.looked = &modelLook{key: key, absent: r.fault == noLookUp || r.visible(key) == nil, mark: len(r.log), boot: r.boot}
		if r.fault == noWaitDelete {
			r.deliverDelete()
		}
	case !d.reading && r.from != 0 && r.rand.IntN(4) == 0:
		d.reading, d.next, d.shown = true, 0, [modelKeys]bool{}
	case d.reading && r.rand.IntN(3) > 0: // passes over the row versions come in between
		for range 1 + r.rand.IntN(modelKeys+1) { // keys that one statement reads
			if d.reading {
				r.readKey()
			}
		}
	default:
		return false
	}
	return true
}

func (r *reader) readKey() {
	d := &r.deletes
	if d.next < modelKeys {
		d.shown[d.next] = r.visible(d.next) != nil
		d.next++
		return
	}
	d.reading = false
	for key, known := range d.known {
		if known && !d.shown[key] {
			d.missing = append(d.missing, key)
		}
		if r.fault == onlySwept {
			d.known[key] = d.shown[key]
		}
	}
}

// deliverDelete delivers a delete, if it is still true.
func (r *reader) deliverDelete() {
	d := &r.deletes
	l := d.looked
	switch {
	case l.boot != r.boot && r.fault != noWaitDelete && r.fault != oldLook:
		d.looked = nil
		return
	case r.flushed < l.mark && r.fault != noWaitDelete:
		return
	}
	d.looked, d.missing = nil, d.missing[1:]
	if !l.absent {
		d.known[l.key] = r.fault != forgetKept
		return
	}
	d.known[l.key] = false
	if r.last[l.key] == nil || d.deleted[l.key] {
		r.fail("key %d was deleted without need", l.key)
	}
	d.deleted[l.key] = true
}

// compareDeletes compares the sink with the table.
func (r *reader) compareDeletes() {
	for key := range modelKeys {
		switch v, last := r.visible(key), r.last[key]; {
		case v == nil && last != nil && !r.deletes.deleted[key]:
			r.fail("key %d is deleted, the sink has %v", key, last)
		case v != nil && r.deletes.deleted[key]:
			r.fail("%v is lost: the sink has deleted it", v)
		}
	}
}
