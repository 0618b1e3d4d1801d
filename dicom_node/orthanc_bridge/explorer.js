// Orthanc Explorer's page of a series: how it stands at the DICOM node, and a button that has it run again.
(function () {
  'use strict';
  var LOOK_AGAIN_MILLISECONDS = 2000;

  function route(uuid) {
    return '../dicom-node/series/' + uuid;
  }

  function shown() {
    return $.mobile.pageData ? $.mobile.pageData.uuid : null;
  }

  function say(text) {
    $('#dicom-node-state').text('Segmentation: ' + text);
  }

  function refresh() {
    var uuid = shown();
    if (!uuid || $('#series:visible').length === 0) {
      return;
    }
    $.ajax({
      url: route(uuid), dataType: 'json', cache: false,
      success: function (answer) {
        if (uuid === shown()) {
          say(answer.text);
          $('#dicom-node-rerun').closest('li').toggle(answer.state !== 'not for the node');
        }
      },
      error: function () { say('not known'); }
    });
  }

  function rerun() {
    $.ajax({
      url: route(shown()) + '/rerun', type: 'POST', data: '', dataType: 'json',
      success: function (answer) { say(answer.text); },
      error: function () { say('could not be asked for'); }
    });
    return false;
  }

  $('#series').live('pagebeforecreate', function () {
    var button = $('<a>').attr({ href: '#', id: 'dicom-node-rerun' }).text('Segment again');
    button.click(rerun);
    $('#series-delete').closest('ul')
      .append($('<li>').attr('id', 'dicom-node-state').text('Segmentation'))
      .append($('<li>').attr('data-icon', 'refresh').append(button));
  });
  $('#series').live('pageshow', refresh);
  setInterval(refresh, LOOK_AGAIN_MILLISECONDS);
}());
