//go:build linux

package faults

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// usage is what a process uses at one moment.
type usage struct{ descriptors, goroutines, memory int }

// use asks the system and the process. It reports false while the process is not there.
func (p *program) use() (u usage, ok bool) {
	pid := p.pid()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return u, false
	}
	u.descriptors = len(open)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, false
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	if fields := strings.Fields(rest); len(fields) > 0 {
		kilobytes, _ := strconv.Atoi(fields[0])
		u.memory = kilobytes >> 10
	}
	answer, err := client.Get("http://" + p.address() + "/metrics")
	if err != nil {
		return u, false
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			u.goroutines, _ = strconv.Atoi(rest)
		}
	}
	return u, u.goroutines > 0
}

// Outages of one kind after the other: the process uses no more descriptors, goroutines and
// memory in the last third of them than in the second. In the shortest form a third has ten.
func TestSoak(t *testing.T) {
	t.Parallel()
	for _, e := range servers {
		if !whole() && e.name != servers[turn()%2].name {
			continue
		}
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			f := fault{part: "soak", name: "outages", how: "connections are reset, refused, cut or lost for half a second"}
			r := results.row(t, f, e.name)
			w := newWorld(t, f, e)
			useProxy(w)
			w.write()
			w.copy.start()
			w.flows()
			kinds := []func(w *world) func(){
				func(w *world) func() { w.between.refuse(); return func() { w.between.accept(w.t) } },
				func(w *world) func() { w.between.set(cut); return func() { w.between.set(nil) } },
				func(w *world) func() { w.between.set(lose); return func() { w.between.set(nil); w.between.resetAll() } },
				cutAnswers,
			}
			period := time.Second
			if soakTime() >= 5*time.Minute {
				period = 5 * time.Second
			}
			r.how += fmt.Sprintf(", every %v, for %v", period, soakTime())
			var used []usage
			for range max(30, soakTime()/period) {
				restore := kinds[r.times%len(kinds)](w)
				<-time.After(500 * time.Millisecond)
				restore()
				healed := time.Now()
				w.catchesUp()
				r.times++
				r.recovered = append(r.recovered, time.Since(healed))
				<-time.After(time.Until(healed.Add(period - 500*time.Millisecond)))
				w.eventually("the process says what it uses", func() bool {
					u, ok := w.copy.use()
					if ok {
						used = append(used, u)
					}
					return ok
				})
			}
			second, last := least(used[len(used)/3:len(used)*2/3]), least(used[len(used)*2/3:])
			r.note = fmt.Sprintf("from the second third to the last, descriptors %d, then %d; goroutines %d, then %d; memory %d MB, then %d MB",
				second.descriptors, last.descriptors, second.goroutines, last.goroutines, second.memory, last.memory)
			w.finish(r)
			assert.Equal(t, "0", r.exit)
			assert.LessOrEqual(t, last.descriptors, second.descriptors+slack.descriptors, "a leak of descriptors: %v", used)
			assert.LessOrEqual(t, last.goroutines, second.goroutines+slack.goroutines, "a leak of goroutines: %v", used)
			assert.LessOrEqual(t, last.memory, second.memory+slack.memory, "a leak of memory: %v", used)
		})
	}
}

// slack is how much more of each the last third of a soak may use. One descriptor or goroutine
// that leaks at each outage is more, also where a third has ten outages.
var slack = usage{descriptors: 5, goroutines: 5, memory: 20}

// least returns the least of each: it excludes the needs of a single moment, and includes every earlier leak.
func least(all []usage) usage {
	return usage{
		slices.MinFunc(all, func(a, b usage) int { return a.descriptors - b.descriptors }).descriptors,
		slices.MinFunc(all, func(a, b usage) int { return a.goroutines - b.goroutines }).goroutines,
		slices.MinFunc(all, func(a, b usage) int { return a.memory - b.memory }).memory,
	}
}
