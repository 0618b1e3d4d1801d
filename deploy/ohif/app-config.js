/** @type {AppTypes.Config} The viewer's settings: one archive, Orthanc behind the same address (deploy/nginx/ohif.conf). */
window.config = {
  routerBasename: null,
  extensions: [],
  modes: [],
  modesConfiguration: {
    // the list of structures is open from the start
    '@ohif/mode-longitudinal': {
      routes: { 0: { layoutInstance: { props: { rightPanelClosed: { $set: false } } } } },
    },
  },
  customizationService: {},
  showStudyList: true,
  // a double click on a SEG or RTSTRUCT shows it; without this, a second click confirms each
  disableConfirmationPrompts: true,
  maxNumberOfWebWorkers: 3,
  showLoadingIndicator: true,
  showCPUFallbackMessage: true,
  // uneven slices are never stretched into a volume
  strictZSpacingForVolumeViewport: true,
  maxNumRequests: { interaction: 100, thumbnail: 5, prefetch: 25 },
  defaultDataSourceName: 'orthanc',
  dataSources: [
    {
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: 'orthanc',
      configuration: {
        friendlyName: 'Orthanc',
        name: 'orthanc',
        qidoRoot: '/dicom-web',
        wadoRoot: '/dicom-web',
        qidoSupportsIncludeField: false,
        supportsFuzzyMatching: false,
        supportsWildcard: true,
        imageRendering: 'wadors',
        thumbnailRendering: 'wadors',
        enableStudyLazyLoad: true,
        omitQuotationForMultipartRequest: true,
        bulkDataURI: { enabled: true },
      },
    },
  ],
};
