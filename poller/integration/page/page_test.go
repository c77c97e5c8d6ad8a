package page

import (
	"testing"
	"time"
)

func TestPage(t *testing.T) {
	browser := browse(t)
	for _, scene := range []struct {
		name  string
		build func(time.Time) []*pipeline
	}{
		{"healthy", healthy}, {"outage", outage}, {"trouble", trouble}, {"many", many},
	} {
		t.Run(scene.name, func(t *testing.T) {
			server := simulate(t, 17*time.Minute, scene.build)
			for _, l := range []struct {
				name string
				look
			}{{"desktop", look{width: 1280}}, {"phone", look{width: 390}}, {"dark", look{width: 1280, dark: true}}, {"phone-dark", look{width: 390, dark: true}}} {
				t.Run(l.name, func(t *testing.T) {
					t.Parallel()
					p := open(t, browser, server.URL+"/", l.look)
					p.behaves()
					p.picture(scene.name + "-" + l.name)
				})
			}
		})
	}
}
